// The promises of mini-programs on iOS 15 and older: a polyfill over setTimeout, so
// that everything after a `then` runs a macrotask later.

/** macrotaskPromise returns such a Promise over a setTimeout. */
export function macrotaskPromise(later: (f: () => void) => void): PromiseConstructor {
  class Late {
    state: 'pending' | 'fulfilled' | 'rejected' = 'pending'
    value: unknown
    waiting: Array<() => void> = []

    constructor(executor: (resolve: (v: unknown) => void, reject: (e: unknown) => void) => void) {
      this.follow(executor)
    }

    /** Runs an executor that resolves or rejects, once. */
    follow(executor: (resolve: (v: unknown) => void, reject: (e: unknown) => void) => void): void {
      let called = false
      const once =
        (f: (v: unknown) => void) =>
        (v: unknown): void => {
          if (called) return
          called = true
          f(v)
        }
      const reject = once((e) => this.settle('rejected', e))
      try {
        executor(
          once((v) => this.resolve(v)),
          reject,
        )
      } catch (e) {
        reject(e)
      }
    }

    resolve(v: unknown): void {
      if (v === this) return this.settle('rejected', new TypeError('a promise cannot wait for itself'))
      if (v === null || (typeof v !== 'object' && typeof v !== 'function')) return this.settle('fulfilled', v)
      let then: unknown
      try {
        then = (v as { then?: unknown }).then
      } catch (e) {
        return this.settle('rejected', e)
      }
      if (typeof then !== 'function') return this.settle('fulfilled', v)
      later(() => this.follow((resolve, reject) => then.call(v, resolve, reject)))
    }

    settle(state: 'fulfilled' | 'rejected', v: unknown): void {
      if (this.state !== 'pending') return
      this.state = state
      this.value = v
      for (const f of this.waiting.splice(0)) later(f)
    }

    then(onFulfilled?: unknown, onRejected?: unknown): Late {
      return new Late((resolve, reject) => {
        const react = () => {
          const handler = this.state === 'fulfilled' ? onFulfilled : onRejected
          if (typeof handler !== 'function')
            return this.state === 'fulfilled' ? resolve(this.value) : reject(this.value)
          try {
            resolve(handler(this.value))
          } catch (e) {
            reject(e)
          }
        }
        if (this.state === 'pending') this.waiting.push(react)
        else later(react)
      })
    }

    catch(onRejected: unknown): Late {
      return this.then(undefined, onRejected)
    }

    static resolve(v?: unknown): Late {
      return v instanceof Late ? v : new Late((resolve) => resolve(v))
    }

    static reject(e?: unknown): Late {
      return new Late((_, reject) => reject(e))
    }

    static all(all: Iterable<unknown>): Late {
      const list = [...all]
      const values: unknown[] = []
      let left = list.length
      return new Late((resolve, reject) => {
        if (!left) resolve(values)
        list.forEach((p, i) =>
          Late.resolve(p).then((v: unknown) => {
            values[i] = v
            if (!--left) resolve(values)
          }, reject),
        )
      })
    }

    static race(all: Iterable<unknown>): Late {
      return new Late((resolve, reject) => {
        for (const p of all) Late.resolve(p).then(resolve, reject)
      })
    }
  }
  return Late as unknown as PromiseConstructor
}
