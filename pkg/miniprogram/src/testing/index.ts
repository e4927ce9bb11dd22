/**
 * A phone for tests: a `wx` that behaves as in mini-programs, over real HTTP, in Node
 * and in browsers.
 *
 * It owns the differences between phones and other clients: a 401 in `success`, ten
 * requests at once, header names in any case, `''` for a missing key in the storage, the
 * background, promises of iOS 15, lost answers, clocks that are set. It does not own the
 * server: use a real one.
 */

import type { LoginOptions, Yufu, YufuOptions } from 'yufu-miniprogram'
import { Clock, type Timer } from './clock'
import { type Fate, type Made, Network, type Options } from './network'
import { macrotaskPromise } from './promise'
import { Storage } from './storage'

export type { Fate, Made }

/** The library in the form for phones. The build inserts its text here. */
declare const librarySource: string

export interface PhoneOptions {
  /** The codes of `wx.login`. If the promise rejects, `wx.login` fails; with `undefined` it never answers. */
  codes?: () => Promise<string | undefined>
  /** The fate of a request. By default, all requests succeed. */
  fate?: (made: Made) => Fate
  /**
   * Time moves only by `run` and `advance`, and takes no real time. Otherwise it moves
   * by itself. This applies to code that `createYufu` and `load` load: a module that the
   * test imports has the clock and the timers of the computer.
   */
  virtual?: boolean
  /** Promises behave as on iOS 15, for code that `createYufu` and `load` load. */
  ios15?: boolean
  /** The hosts in the program's settings. By default, they are not checked. */
  domains?: string[]
  /** How long the program runs in the background, in milliseconds; 5 s by default. */
  suspendAfter?: number
  /** The time in the background after which it is destroyed; 30 min by default. */
  destroyAfter?: number
  /** The order of delivery on return. */
  onReturn?: 'callbacks first' | 'timers first'
  /** Random numbers from 0 to 1. */
  random?: () => number
}

interface Failure {
  errMsg: string
}

interface Login {
  code: string
  errMsg: string
}

/** The callbacks of the platform's asynchronous calls. */
interface Callbacks<R> {
  success?: (result: R) => void
  fail?: (error: Failure) => void
  complete?: (result: R | Failure) => void
}

/** The argument of the listeners of `onAppShow`. */
interface Shown {
  path: string
  scene: number
}

/** The part of `wx` that the phone has. */
export type PhoneWx = ReturnType<Phone['newWx']>

/** The globals of a phone beyond those that `load` adds. */
const language =
  'Object Function Array Number parseFloat parseInt Infinity NaN undefined Boolean String Symbol Date Promise RegExp Error EvalError RangeError ReferenceError SyntaxError TypeError URIError JSON Math ArrayBuffer DataView Int8Array Uint8Array Uint8ClampedArray Int16Array Uint16Array Int32Array Uint32Array Float32Array Float64Array Map Set WeakMap WeakSet Proxy Reflect decodeURI decodeURIComponent encodeURI encodeURIComponent escape unescape eval isFinite isNaN console'.split(
    ' ',
  )

export class Phone {
  readonly clock: Clock
  readonly storage = new Storage()
  /** The requests since the start of the program. */
  network!: Network
  /** The program's `wx`: a new one after each cold start. */
  wx!: PhoneWx
  /** The number of calls of `wx.login`, and of those refused by its rate limit. */
  logins = 0
  loginsRefused = 0
  private loginTimes: number[] = []
  private listeners: { show: Array<(o: Shown) => void>; hide: Array<() => void> } = { show: [], hide: [] }
  private undelivered: Array<() => void> = []
  private hidden: unknown[] | undefined
  private destroyed = false
  private world: unknown
  private input = 0
  private inputChanged: Array<() => void> = []

  constructor(private readonly options: PhoneOptions = {}) {
    this.clock = new Clock(options.virtual === true)
    this.begin()
  }

  /** Ends the program and starts it again: only the storage remains. */
  restart(): void {
    this.destroy()
    this.show()
    this.destroyed = false
    this.clock.frozen = false
    this.begin()
  }

  /** The user leaves the program. By default it is suspended after 5 s, and destroyed after 30 min. */
  background(): void {
    if (this.hidden) return
    this.hidden = [
      this.clock.set(() => this.suspend(), this.options.suspendAfter ?? 5000, true),
      this.clock.set(() => this.destroy(), this.options.destroyAfter ?? 30 * 60000, true),
    ]
    for (const f of [...this.listeners.hide]) f()
  }

  /** The user comes back. Returns false if the program was destroyed: then `restart` it. */
  foreground(): boolean {
    if (!this.show() || this.destroyed) return !this.destroyed
    this.clock.frozen = false
    const callbacks = () => this.undelivered.splice(0).forEach((f) => f())
    if (this.options.onReturn === 'timers first') this.clock.ringDue()
    callbacks()
    this.clock.ringDue()
    for (const f of [...this.listeners.show]) f({ path: 'pages/index', scene: 1001 })
    return true
  }

  /** Whether the program is suspended. */
  get suspended(): boolean {
    return this.clock.frozen
  }

  /** With virtual time: moves the clock and runs everything that is due. */
  async advance(ms: number): Promise<void> {
    const until = this.clock.mono() + ms
    do await this.quiet()
    while (this.clock.step(until))
    await this.quiet()
  }

  /**
   * With virtual time: moves the clock until the promise settles. Rejects if no timer is
   * left that could settle it.
   */
  async run<T>(promise: PromiseLike<T>): Promise<T> {
    // The result is read here, because a second `then` on a promise of the program may
    // need more time.
    let done: (() => T) | undefined
    promise.then(
      (value) => {
        done = () => value
      },
      (error) => {
        done = () => {
          throw error
        }
      },
    )
    for (;;) {
      await this.quiet()
      if (done) return done()
      if (!this.clock.step()) {
        await turn()
        if (!done && !this.clock.next() && !this.input)
          throw new Error(
            'this promise never settles; a program that the phone did not load (createYufu, load) uses other timers',
          )
      }
    }
  }

  /**
   * Makes a client that runs on this phone: the library in this package, with the
   * phone's `wx`, clock, timers and promises. After a `restart` the program must make a
   * new one.
   */
  createYufu(options: YufuOptions): Yufu {
    return this.load<{ createYufu(o: YufuOptions): Yufu }>(librarySource).createYufu(options)
  }

  /**
   * Runs a CommonJS file of the program, given as text, with only the globals of a
   * phone: no URL, no fetch, no process. Returns its exports.
   */
  load<Exports = Record<string, unknown>>(code: string, more: Record<string, unknown> = {}): Exports {
    const { clock } = this
    class PhoneDate extends Date {
      constructor(...args: unknown[]) {
        super(...((args.length ? args : [clock.now()]) as []))
      }
      static now() {
        return clock.now()
      }
    }
    const module = { exports: {} as Exports }
    const world: Record<string, unknown> = {}
    for (const name of Object.getOwnPropertyNames(globalThis))
      if (!language.includes(name) && /^[A-Za-z_$][\w$]*$/.test(name)) world[name] = undefined
    Object.assign(
      world,
      { globalThis: undefined, wx: this.wx, Date: PhoneDate, module, exports: module.exports },
      this.timers(),
      more,
    )
    if (this.options.ios15) world.Promise = macrotaskPromise((f) => clock.set(f, 0))
    new Function(...Object.keys(world), code)(...Object.values(world))
    return module.exports
  }

  private timers() {
    const { clock } = this
    return {
      setTimeout: (f: () => void, ms?: number) => clock.set(f, ms),
      clearTimeout: (t: unknown) => clock.clear(t),
      setInterval: (f: () => void, ms?: number) => {
        const handle: { timer?: Timer } = {}
        const again = () => {
          handle.timer = clock.set(again, ms)
          f()
        }
        handle.timer = clock.set(again, ms)
        return handle
      },
      clearInterval: (h?: { timer?: Timer }) => h && clock.clear(h.timer),
    }
  }

  private suspend(): void {
    this.clock.frozen = true
    this.network.interrupt()
  }

  private destroy(): void {
    this.destroyed = true
    this.network.drop()
    this.clock.clearProgram()
    this.undelivered = []
  }

  private show(): boolean {
    if (!this.hidden) return false
    for (const timer of this.hidden) this.clock.clear(timer)
    this.hidden = undefined
    return true
  }

  /** Waits until no input or output is under way and only timers are left. */
  private async quiet(): Promise<void> {
    do {
      while (this.input) await new Promise<void>((resolve) => this.inputChanged.push(resolve))
      for (let i = 0; i < 3; i++) await turn()
    } while (this.input)
  }

  private busy = (n: number): void => {
    this.input += n
    if (!this.input) for (const f of this.inputChanged.splice(0)) f()
  }

  /** begin makes the environment of a program that starts. */
  private begin(): void {
    const world = (this.world = {})
    // Calls back only the program that runs now, not a later one.
    const deliver = (f: () => void) => {
      const call = () => {
        if (this.world === world && !this.destroyed) f()
      }
      const due = () => (this.clock.frozen ? void this.undelivered.push(call) : call())
      // Never before the call that causes it has returned.
      queueMicrotask(due)
    }
    const { fate = () => 'ok', domains, random = Math.random } = this.options
    this.listeners = { show: [], hide: [] }
    this.network = new Network({ clock: this.clock, deliver, fate, domains, random, busy: this.busy })
    this.wx = this.newWx(deliver)
  }

  private newWx(deliver: (f: () => void) => void) {
    const { storage, network, listeners } = this
    const callback = <R extends object>(api: string, o: Callbacks<R>, f: () => R) => {
      let result: R & { errMsg: string }
      try {
        result = { ...f(), errMsg: `${api}:ok` }
      } catch (e) {
        const error = { errMsg: String((e as Error).message) }
        return deliver(() => (o.fail?.(error), o.complete?.(error)))
      }
      deliver(() => (o.success?.(result), o.complete?.(result)))
    }
    const off = <F>(list: F[], f?: F) => void (f ? list.includes(f) && list.splice(list.indexOf(f), 1) : list.splice(0))
    return {
      request: (o: Options) => network.request(o),
      login: (o: LoginOptions & Callbacks<Login>) => this.login(o, deliver),
      getStorageSync: (key: string): unknown => storage.get(key),
      setStorageSync: (key: string, data: unknown) => storage.set(key, data),
      removeStorageSync: (key: string) => storage.remove(key),
      clearStorageSync: () => storage.raw.clear(),
      getStorage: (o: { key: string } & Callbacks<{ data: unknown }>) =>
        callback('getStorage', o, () => {
          if (!storage.raw.has(o.key)) throw new Error('getStorage:fail data not found')
          return { data: storage.get(o.key) }
        }),
      setStorage: (o: { key: string; data: unknown } & Callbacks<object>) =>
        callback('setStorage', o, () => {
          storage.set(o.key, o.data)
          return {}
        }),
      removeStorage: (o: { key: string } & Callbacks<object>) =>
        callback('removeStorage', o, () => {
          storage.remove(o.key)
          return {}
        }),
      onAppShow: (f: (o: Shown) => void) => void listeners.show.push(f),
      offAppShow: (f?: (o: Shown) => void) => off(listeners.show, f),
      onAppHide: (f: () => void) => void listeners.hide.push(f),
      offAppHide: (f?: () => void) => off(listeners.hide, f),
    }
  }

  /** wx.login: only with callbacks, and at most four times a second. */
  private login(o: Callbacks<Login>, deliver: (f: () => void) => void): void {
    this.logins++
    const now = this.clock.mono()
    this.loginTimes = this.loginTimes.filter((t) => now - t < 1000)
    this.loginTimes.push(now)
    const fail = (error: Failure) => deliver(() => (o.fail?.(error), o.complete?.(error)))
    const succeed = (result: Login) => deliver(() => (o.success?.(result), o.complete?.(result)))
    if (this.loginTimes.length > 4) {
      this.loginsRefused++
      return fail({ errMsg: 'login:fail called too often' })
    }
    this.busy(1)
    const { codes = () => Promise.reject(new Error('this phone has no codes; pass the option codes')) } = this.options
    codes().then(
      (code) => {
        this.busy(-1)
        if (code !== undefined) succeed({ code, errMsg: 'login:ok' })
      },
      (e) => {
        this.busy(-1)
        fail({ errMsg: `login:fail ${e.message}` })
      },
    )
  }
}

/** createPhone returns a phone with a program that has just started. */
export const createPhone = (options?: PhoneOptions): Phone => new Phone(options)

/** turn runs everything that is ready. */
function turn(): Promise<void> {
  const soon = (globalThis as { setImmediate?: (f: () => void) => void }).setImmediate
  return new Promise((resolve) => (soon ? soon(resolve) : setTimeout(resolve)))
}
