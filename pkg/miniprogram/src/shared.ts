// The state that all clients of one app share: one session, one renewal at a time.

import type { Session, Wx, YufuError } from './api'
import { fail } from './errors'
import { emit, type Handlers } from './events'
import { fresh, keyOf, read, remove, type Stored, write } from './store'
import { patience } from './transport'

/** Do not rename its members: copies of this package in another version may use them too. */
export interface Shared {
  wx: Wx
  baseURL: string
  clientId: string
  key: string
  handlers: Handlers
  /** The renewal under way. All callers that need a token wait for it. */
  flight?: Promise<Stored>
  /** The change of the binding under way; it never rejects. */
  change?: Promise<unknown>
  /** Back-offs, which end when the app is shown. */
  asleep: Array<() => void>
  /** When the renewal under way gives up, in milliseconds of the phone's clock. */
  deadline: number
  /** Why there is no renewal for some time. */
  hold?: { at: number; ms: number; error: YufuError }
  /** The time of the last call of `login`. */
  loginAt: number
  /** The time of the last request to the token endpoint. The lifetime of its tokens counts from then. */
  sentAt: number
  /** The number of log-outs. */
  logouts: number
  /** The session that handlers got last. */
  told?: Session
  /** When each back end refused a new token. */
  refusedAt: { [origin: string]: number }
  /** The session, while the phone's storage refuses it. */
  unwritten?: Stored
}

type Registry = { [key: string]: Shared }

// On the platform's object itself: a mini-program may load several copies of this
// package, one in each subpackage.
const registry = Symbol.for('yufu-miniprogram/1')
const frozen: Array<[Wx, Registry]> = []

/** sharedBy returns the state that clients with this `wx`, base URL and app share. */
export function sharedBy(wx: Wx, baseURL: string, clientId: string): Shared {
  const all = registryOf(wx)
  const key = keyOf(baseURL, clientId)
  if (!all[key]) {
    const s: Shared = (all[key] = {
      wx,
      baseURL,
      clientId,
      key,
      handlers: {},
      asleep: [],
      deadline: 0,
      loginAt: 0,
      sentAt: 0,
      logouts: 0,
      refusedAt: {},
    })
    if (wx.onAppShow) wx.onAppShow(() => wake(s))
  }
  return all[key]
}

/** registryOf never reads `wx[registry]`: uni-app's `uni` is a Proxy that throws for a symbol. */
function registryOf(wx: Wx): Registry {
  const own = () => Object.getOwnPropertyDescriptor(wx, registry)
  try {
    if (!own()) Object.defineProperty(wx, registry, { value: {} })
    return own()!.value
  } catch (_) {
    // A frozen object: copies of this package cannot find each other.
    let entry = frozen.find((e) => e[0] === wx)
    if (!entry) frozen.push((entry = [wx, {}]))
    return entry[1]
  }
}

function wake(s: Shared): void {
  s.deadline = Date.now() + patience
  s.asleep.splice(0).forEach((up) => up())
}

/** pause waits for `ms`. A back-off ends early when the app is shown. */
export function pause(s: Shared, ms: number, backoff?: boolean): Promise<void> {
  return new Promise((resolve) => {
    const up = () => {
      clearTimeout(timer)
      s.asleep = s.asleep.filter((f) => f !== up)
      resolve()
    }
    const timer = setTimeout(up, ms)
    if (backoff) s.asleep.push(up)
  })
}

export const load = (s: Shared): Stored | undefined => s.unwritten || read(s.wx, s.key, s.told && s.told.person)

/** save stores the session, and emits an event if the binding changed. */
export function save(s: Shared, stored: Stored): Stored {
  const known = s.told || load(s)
  if (write(s.wx, s.key, stored)) s.unwritten = undefined
  else {
    s.unwritten = stored
    emit(s.handlers, 'error', fail('storage', 'the session could not be stored; it ends when the program ends'))
  }
  s.told = sessionOf(stored)
  const personOf = (x: Session) => (x.person ? x.person.id : '')
  if (!known || known.bound !== stored.bound || personOf(known) !== personOf(stored))
    emit(s.handlers, stored.bound ? 'bound' : 'unbound', sessionOf(stored))
  return stored
}

export function forget(s: Shared): void {
  s.unwritten = undefined
  remove(s.wx, s.key)
}

export const sessionOf = ({ uuid, bound, person }: Session): Session => ({
  uuid,
  bound,
  person: person && Object.assign({}, person),
})

/** within reports whether less than `ms` passed since `at`, by a clock that may be set back. */
export const within = (at: number, ms: number): boolean => {
  const passed = Date.now() - at
  return passed >= 0 && passed < ms
}

/** ready returns the stored session if its access token is valid. */
export function ready(s: Shared): Stored | undefined {
  const stored = load(s)
  return stored && fresh(stored, Date.now()) ? stored : undefined
}
