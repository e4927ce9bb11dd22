// The time of a phone. Two clocks: one that only goes forward, by which timers
// go, and the one on the wall, which a user may turn.

/** Those of the system go on when the program is suspended. */
export interface Timer {
  due: number
  fire: () => void
  system: boolean
  real?: ReturnType<typeof setTimeout>
}

export class Clock {
  /** Suspended: the program's timers stop, and fire late. */
  frozen = false
  private timers = new Set<Timer>()
  private passed = 0
  private turned = 0
  private readonly began = Date.now()

  /** A virtual clock stands still but for `advance`; any other goes by itself. */
  constructor(readonly virtual: boolean) {}

  /** Milliseconds since the phone was made. */
  mono(): number {
    return this.virtual ? this.passed : performance.now()
  }

  /** The time on the wall, in milliseconds since 1970. */
  now(): number {
    return this.virtual ? this.began + this.passed + this.turned : Date.now() + this.turned
  }

  /** Turns the clock on the wall. Timers do not notice. */
  turn(ms: number): void {
    this.turned += ms
  }

  set(fire: () => void, ms = 0, system = false): Timer {
    // As everywhere, what is not positive is a millisecond.
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

  /** Forgets the timers of the program, which was destroyed. */
  clearProgram(): void {
    for (const t of [...this.timers]) if (!t.system) this.clear(t)
  }

  /** Fires what is due, the earliest first: called when the program goes on. */
  ringDue(): void {
    for (let t = this.next(); t && t.due <= this.mono(); t = this.next()) this.ring(t)
  }

  /** The timer that fires next, if there is any. */
  next(): Timer | undefined {
    let first: Timer | undefined
    for (const t of this.timers) if ((t.system || !this.frozen) && (!first || t.due < first.due)) first = t
    return first
  }

  /** Goes forward to the next timer, but not beyond a time, and fires it. */
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
