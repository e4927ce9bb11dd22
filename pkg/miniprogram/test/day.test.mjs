// A day of some users, in virtual time, against the real service: the requests of
// the library to it and to WeChat, compared with those of a log-in by timer.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seedSource } from './seed.mjs'
import { clientId, name, newPhone, sdk, startService } from './service.mjs'

const service = await startService()
const users = 10
const minute = 60_000

/** A day: visits with requests, and pauses between them, in minutes. It depends only on the user. */
function dayOf(user) {
  let x = user * 2654435761
  const next = () => (x = (Math.imul(x, 1664525) + 1013904223) >>> 0) / 4294967296
  return Array.from({ length: 12 }, () => ({
    requests: Array.from({ length: 1 + Math.floor(next() * 8) }, () => next() * 5),
    pause: next() < 0.4 ? 2 + next() * 20 : 35 + next() * 150,
  }))
}

async function live(start) {
  const made = []
  let logins = 0
  let refused = 0
  for (let user = 1; user <= users; user++) {
    const phone = newPhone(service)
    let client = start(phone)
    for (const { requests, pause } of dayOf(user)) {
      for (const wait of requests) {
        await phone.advance(wait * minute)
        const answer = await phone.run(client.fetch({ url: `${service.baseURL}/v1/me` }))
        if (answer.statusCode !== 200) refused++
      }
      phone.background()
      await phone.advance(pause * minute)
      if (!phone.foreground()) {
        made.push(...phone.network.made)
        phone.restart()
        client = start(phone)
      }
    }
    made.push(...phone.network.made)
    logins += phone.logins
  }
  const count = (kind) => made.filter((m) => name(m) === kind).length
  return { logins, refused, exchanges: count('exchange'), refreshes: count('refresh'), requests: count('GET /v1/me') }
}

test('a user’s day needs at most one log-in, and a dozen with a timer', async (t) => {
  const ours = await live((phone) => phone.load(sdk).createYufu({ baseURL: service.baseURL, clientId }))
  const seed = await live((phone) => phone.load(seedSource)({ baseURL: service.baseURL, clientId, every: 20 * minute }))
  const perDay = (n) => (n / users).toFixed(1)
  for (const [who, p] of Object.entries({ ours, seed }))
    t.diagnostic(
      `${who}: a user and day has ${perDay(p.requests)} requests, ${perDay(p.refreshes)} refreshes, ${perDay(p.exchanges)} log-in requests, each of them a platform call`,
    )
  assert.equal(ours.requests, seed.requests, 'both make the same requests')
  assert.deepEqual([ours.refused, ours.logins, ours.exchanges], [0, users, users])
  assert(seed.exchanges > 10 * ours.exchanges)
})
