// Many concurrent phones on a bad network: some with the library and, on the same
// schedule, some with the pattern that it replaces. Run by the end-to-end tests of
// the service, which check the server's side. The task is JSON on standard input, the
// result goes to standard output:
//
//   baseURL, clientId, sim, orders   the addresses and the app
//   clients, seconds                 their number, and the duration; up to four
//                                    times longer, until a user had to log in again
//   grace                            the refresh window, in seconds
//   every                            how often the seed logs in, in seconds

import { text } from 'node:stream/consumers'
import { createPhone } from '../dist/testing.mjs'
import { seedSource } from './seed.mjs'
import { name, sdk } from './service.mjs'

const task = JSON.parse(await text(process.stdin))
const end = Date.now() + task.seconds * 1000
const latest = end + 3 * task.seconds * 1000
let over = false
let calm = false

/** random returns a generator of numbers from 0 to 1, with the same sequence for the same seed. */
function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/** A fifth of the answers is lost: half of them before the server acted, half after. A few are slow. */
function fateOf(next) {
  return () => {
    const [luck, how] = [next(), next()]
    if (calm || luck >= 0.2) return 'ok'
    return `${how < 0.05 ? 'silent' : 'lost'}-${luck < 0.1 ? 'request' : 'answer'}`
  }
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

/** A user with a phone that runs a program of one of two kinds. */
class User {
  tally = { requests: 0, answered: 0, lost: 0, unauthorized: 0, signedout: 0, strange: [] }
  made = []
  starts = 0

  constructor(n, program) {
    this.n = n
    this.program = program
    this.phone = createPhone({
      suspendAfter: 20,
      fate: fateOf(random(n * 7919 + 1)),
      random: random(n),
      codes: () => this.code(),
      onReturn: n % 2 ? 'timers first' : 'callbacks first',
    })
    this.start()
  }

  async code() {
    const answer = await fetch(`${task.sim}/sim/codes`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ user: `${this.program.name}-${this.n}` }),
    })
    return (await answer.json()).code
  }

  start() {
    if (this.starts++) {
      this.made.push(...this.phone.network.made)
      this.phone.restart()
    }
    this.client = this.program.start(this.phone, this.tally)
  }

  request() {
    this.tally.requests++
    return this.client.fetch({ url: `${task.orders}/orders`, timeout: 5000 }).then(
      ({ statusCode }) => {
        if (statusCode === 401) this.tally.unauthorized++
        else if (statusCode !== 200) this.tally.strange.push(`status ${statusCode}`)
        this.tally.answered++
      },
      (e) => {
        if (e.status || !/network|timeout|interrupted|request:fail/.test(`${e.code} ${e.errMsg}`))
          this.tally.strange.push(String(e.errMsg || e))
        this.tally.lost++
      },
    )
  }

  /** live acts as a user. Its actions do not depend on their results. */
  async live() {
    const next = random(this.n * 104729 + 3)
    const pending = []
    await sleep(next() * 1000)
    while (!over) {
      const [what, how, wait] = [next(), next(), next()]
      if (what < 0.75) for (let i = 0; i < 1 + 2 * how; i++) pending.push(this.request())
      else {
        // Users often leave during a request.
        if (how < 0.6) pending.push(this.request())
        this.phone.background()
        const long = what > 0.93
        await sleep(long ? task.grace * 1000 * (1 + wait / 2) : 30 + wait * 500)
        if (!this.phone.foreground() || (long && how > 0.5)) this.start()
      }
      await sleep(2000 + wait * 2500)
    }
    // A destroyed program leaves promises that never settle.
    await Promise.race([Promise.all(pending), sleep(12_000)])
  }

  /** settle makes a request after the faults have ended. On a slow machine it may time out. */
  async settle() {
    const { answered } = this.tally
    for (let n = 0; n < 20 && this.tally.answered === answered; n++) await this.request()
  }
}

const ours = {
  name: 'ours',
  start(phone, tally) {
    const yufu = phone
      .load(sdk)
      .createYufu({ baseURL: task.baseURL, clientId: task.clientId, apiHosts: [task.orders.slice(7)] })
    yufu.on('signedout', () => tally.signedout++)
    return yufu
  },
}

const seed = {
  name: 'seed',
  start: (phone) =>
    phone.load(seedSource)({ baseURL: task.baseURL, clientId: task.clientId, every: task.every * 1000 }),
}

const [a, b] = [ours, seed].map((program) => Array.from({ length: task.clients }, (_, n) => new User(n + 1, program)))

/** Whether a refresh came too late and a user had to log in again. On a slow machine this takes longer. */
const late = () =>
  a.some(
    (u) =>
      [...u.made, ...u.phone.network.made].filter((m) => name(m) === 'exchange' && m.answered && m.status === 200)
        .length > 1,
  )
const watch = setInterval(() => (over = Date.now() >= end && (late() || Date.now() >= latest)), 200)
await Promise.all([...a, ...b].map((u) => u.live()))
clearInterval(watch)
// The seed's timers would continue.
for (const { phone } of b) phone.clock.clearProgram()
calm = true
// The seed may still wait for a lost answer, for 60 s as in wx.request.
await Promise.all(a.map((u) => u.settle()))

function sum(users) {
  const made = users.flatMap((u) => [...u.made, ...u.phone.network.made])
  const count = (kind, f = () => true) => made.filter((m) => name(m) === kind && f(m)).length
  const total = (key) => users.reduce((n, u) => n + u.tally[key], 0)
  return {
    starts: users.reduce((n, u) => n + u.starts, 0),
    requests: total('requests'),
    answered: total('answered'),
    lost: total('lost'),
    unauthorized: total('unauthorized'),
    signedout: total('signedout'),
    strange: users.flatMap((u) => u.tally.strange).slice(0, 10),
    wx_logins: users.reduce((n, u) => n + u.phone.logins, 0),
    exchanges: count('exchange'),
    exchanges_acted: count('exchange', (m) => !m.fate.endsWith('request')),
    exchanges_answered: count('exchange', (m) => m.answered && m.status === 200),
    refreshes: count('refresh'),
    refreshes_answered: count('refresh', (m) => m.answered && m.status === 200),
    network_requests: made.length,
    answers_lost: made.filter((m) => m.fate !== 'ok').length,
  }
}

process.stdout.write(JSON.stringify({ ours: sum(a), seed: sum(b) }))
process.exit(0)
