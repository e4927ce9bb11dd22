// The time of a phone. It has two clocks: a monotonic one for timers, and the wall
// clock, which the user may set.

/** A timer. Those of the system continue while the program is suspended. */
export interface Timer {
  due: number
  fire: () => void
  system: boolean
  real?: ReturnType<typeof setTimeout>
}

export class Clock {
  /** Whether the program is suspended: its timers stop, and fire late. */
  frozen = false
  private timers = new Set<Timer>()
  private passed = 0
  private turned = 0
  private readonly began = Date.now()

  /** A virtual clock moves only with `advance`; any other moves by itself. */
  constructor(readonly virtual: boolean) {}

  /** Milliseconds since the phone was made. */
  mono(): number {
    return this.virtual ? this.passed : performance.now()
  }

  /** The wall clock, in milliseconds since 1970. */
  now(): number {
    return this.virtual ? this.began + this.passed + this.turned : Date.now() + this.turned
  }

  /** Changes the wall clock. Timers are not affected. */
  turn(ms: number): void {
    this.turned += ms
  }

  set(fire: () => void, ms = 0, system = false): Timer {
    // As on other platforms, a time that is not positive means a millisecond.
    const wait = Math.max(1, Number(ms) || 0)
    const timer: Timer = { due: this.mono() + wait, fire, system }
    this.timers.add(timer)
    if (!this.virtual) timer.real = setTimeout(() => this.ring(timer), wait)
    return timer
  }

  clear(timer: unknown): void {
    const t = timer as Timer
    if (this.timers.delete(t) && t.real !== undefined) clearTimeout(t.real)
  }

  /** Removes the timers of the program, which was destroyed. */
  clearProgram(): void {
    for (const t of [...this.timers]) if (!t.system) this.clear(t)
  }

  /** Fires the due timers, the earliest first. Called when the program resumes. */
  ringDue(): void {
    for (let t = this.next(); t && t.due <= this.mono(); t = this.next()) this.ring(t)
  }

  /** The timer that fires next, if there is any. */
  next(): Timer | undefined {
    let first: Timer | undefined
    for (const t of this.timers) if ((t.system || !this.frozen) && (!first || t.due < first.due)) first = t
    return first
  }

  /** Moves to the next timer, but not beyond `until`, and fires it. */
  step(until = Infinity): boolean {
    const t = this.next()
    if (!t || t.due > until) {
      if (until !== Infinity) this.passed = Math.max(this.passed, until)
      return false
    }
    this.passed = Math.max(this.passed, t.due)
    this.ring(t)
    return true
  }

  private ring(t: Timer): void {
    if (!this.timers.has(t) || (this.frozen && !t.system)) return
    this.clear(t)
    t.fire()
  }
}
