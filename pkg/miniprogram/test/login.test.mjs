// Logging in and refreshing, against the real service.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newPhone, startServer, startService } from './service.mjs'

const service = await startService()

const uuid = /^[0-9a-f-]{36}$/
const me = (yufu) => yufu.fetch({ url: `${service.baseURL}/v1/me` })

test('the first session is a silent log-in and returns the user', async () => {
  const phone = newPhone(service)
  const yufu = phone.yufu({ device: 'a phone' })
  assert.deepEqual(phone.sent(), [], 'making a client makes no request')
  const session = await phone.run(yufu.session())
  assert.match(session.uuid, uuid)
  assert.deepEqual(session, { uuid: session.uuid, bound: false, person: null })
  assert.deepEqual(phone.sent(), ['exchange'])
  const { data } = await phone.run(me(yufu))
  assert.equal(data.uuid, session.uuid)
  assert.equal(data.session.device, 'a phone')
})

for (const ios15 of [false, true]) {
  test(`concurrent requests wait for one log-in${ios15 ? ', with promises as macrotasks' : ''}`, async () => {
    const phone = newPhone(service, { ios15 })
    const copy = phone.copy()
    const all = []
    for (let i = 0; i < 15; i++) all.push(me(phone.yufu({}, copy)))
    for (let i = 0; i < 5; i++) all.push(me(phone.yufu()))
    const answers = await phone.run(Promise.all(all))
    assert.deepEqual(
      answers.map((a) => a.statusCode),
      Array(20).fill(200),
    )
    assert.equal(phone.sent().filter((n) => n === 'exchange').length, 1)
    assert.equal(phone.logins, 1)
    if (!ios15) assert.equal(phone.network.maxConcurrent, 10, 'a phone makes ten requests at once')
  })
}

test('the marker of a log-in is set before the caller continues', () => {
  const phone = newPhone(service, { ios15: true })
  const [a, b] = [phone.yufu(), phone.yufu()]
  a.session().catch(() => {})
  b.session().catch(() => {})
  assert.equal(phone.logins, 1)
})

test('a page’s request in onLoad waits for the log-in that onLaunch began', async () => {
  const phone = newPhone(service)
  const yufu = phone.yufu()
  const launched = yufu.session()
  const loaded = me(yufu)
  assert.equal((await phone.run(loaded)).data.uuid, (await launched).uuid)
  assert.deepEqual(phone.sent(), ['exchange', 'GET /v1/me'])
})

test('a cold start with a stored session makes no request until one is needed', async () => {
  const phone = newPhone(service)
  const before = await phone.run(phone.yufu().session())
  phone.restart()
  const yufu = phone.yufu()
  const told = []
  yufu.on('unbound', (s) => told.push(s))
  await phone.advance(1000)
  assert.deepEqual(await phone.run(yufu.session()), before)
  assert.deepEqual(phone.sent(), [])
  assert.equal(phone.logins, 1)
  await phone.age(3600_000)
  await phone.run(yufu.session())
  assert.deepEqual(phone.sent(), ['refresh'])
  assert.deepEqual(told, [], 'there is no event without a change')
})

test('a token is refreshed when a request needs it near its end, never by a timer', async () => {
  const phone = newPhone(service)
  const yufu = phone.yufu()
  await phone.run(yufu.session())
  await phone.advance(3600_000)
  assert.deepEqual(phone.sent(), ['exchange'], 'no request in an hour without use')
  const first = phone.stored()
  await phone.run(Promise.all([me(yufu), me(yufu), yufu.session(), phone.yufu().session()]))
  assert.deepEqual(phone.sent().slice(0, 2), ['exchange', 'refresh'])
  assert.equal(phone.sent().filter((n) => n === 'refresh').length, 1)
  assert.notEqual(phone.stored().refresh, first.refresh)
  assert.equal(phone.logins, 1)
})

for (const [lifetime, margin] of [
  [600, 30],
  [60, 6],
]) {
  test(`a token with a lifetime of ${lifetime} s is refreshed ${margin} s before its end`, async () => {
    const tokens = await startTokens({ expires_in: lifetime })
    const phone = newPhone(tokens)
    const yufu = phone.yufu()
    await phone.run(yufu.session())
    await phone.advance((lifetime - margin) * 1000 - 500)
    await phone.run(yufu.session())
    assert.deepEqual(phone.sent(), ['exchange'])
    await phone.advance(500)
    await phone.run(yufu.session())
    assert.deepEqual(phone.sent(), ['exchange', 'refresh'])
  })
}

test('tokens are stored before the waiting requests continue', async () => {
  const phone = newPhone(service)
  const yufu = phone.yufu()
  let stored
  const set = phone.wx.setStorageSync
  phone.wx.setStorageSync = (key, value) => {
    assert.equal(phone.sent().at(-1), 'exchange')
    stored = value
    set(key, value)
  }
  await phone.run(me(yufu))
  assert.equal(phone.network.made.at(-1).header.authorization, `Bearer ${stored.access}`)
})

for (const fate of ['lost-request', 'lost-answer', 'silent-request', 'silent-answer']) {
  test(`a refresh with the fate ${fate} is repeated with the same token`, async () => {
    let losses = 1
    const phone = newPhone(service, {
      fate: (made) => (made.body?.includes('refresh_token=') && losses-- > 0 ? fate : 'ok'),
    })
    const yufu = phone.yufu()
    await phone.run(yufu.session())
    await phone.age(3600_000)
    assert.equal((await phone.run(me(yufu))).statusCode, 200)
    assert.deepEqual(phone.sent(), ['exchange', 'refresh', 'refresh', 'GET /v1/me'])
    const [, first, second] = phone.network.made
    assert.equal(first.body, second.body)
  })

  test(`a log-in with the fate ${fate} is repeated with another code`, async () => {
    let losses = 1
    const phone = newPhone(service, { fate: () => (losses-- > 0 ? fate : 'ok') })
    await phone.run(phone.yufu().session())
    assert.deepEqual(phone.sent(), ['exchange', 'exchange'])
    const [first, second] = phone.network.made
    assert.notEqual(first.body, second.body)
  })
}

test('without a network the session is kept, and the error comes within 10 s', async () => {
  let offline = false
  const phone = newPhone(service, { fate: () => (offline ? 'silent-request' : 'ok') })
  const yufu = phone.yufu()
  const events = []
  yufu.on('error', (e) => events.push(e.code))
  yufu.on('signedout', (e) => events.push(e.code))
  await phone.run(yufu.session())
  await phone.age(3600_000)
  const before = phone.stored()
  offline = true
  const began = phone.clock.mono()
  await assert.rejects(phone.run(me(yufu)), { name: 'YufuError', code: 'timeout', status: 0 })
  assert(phone.clock.mono() - began < 11000, `it took ${phone.clock.mono() - began} ms`)
  assert.deepEqual(phone.stored(), before)
  assert.deepEqual(events, ['timeout'])
  offline = false
  assert.equal((await phone.run(me(yufu))).statusCode, 200)
  assert.equal(phone.logins, 1)
})

for (const how of ['never answers', 'fails']) {
  test(`when wx.login ${how}, the error comes within 10 s, and the rate limit is kept`, async () => {
    const phone = newPhone(service, {
      codes: how === 'fails' ? () => Promise.reject(new Error('no')) : async () => undefined,
    })
    const yufu = phone.yufu()
    const began = phone.clock.mono()
    await assert.rejects(phone.run(yufu.session()), { code: how === 'fails' ? 'login_failed' : 'timeout' })
    assert(phone.clock.mono() - began <= 11000)
    for (let i = 0; i < 10; i++) await assert.rejects(phone.run(yufu.session()))
    assert.equal(phone.loginsRefused, 0)
    assert(phone.logins <= 44)
  })
}

test('repeated log-ins and log-outs keep the rate limit of wx.login', async () => {
  const phone = newPhone(service)
  const yufu = phone.yufu()
  for (let i = 0; i < 8; i++) {
    await phone.run(yufu.session())
    await phone.run(yufu.logout())
  }
  assert.deepEqual([phone.logins, phone.loginsRefused], [8, 0])
})

test('a session that was revoked is replaced by one silent log-in', async () => {
  const phone = newPhone(service)
  const yufu = phone.yufu()
  const events = []
  for (const e of ['signedout', 'error', 'unbound', 'bound']) yufu.on(e, () => events.push(e))
  const before = await phone.run(yufu.session())
  assert.deepEqual(events.splice(0), ['unbound'])
  await service.revoke({ uuid: before.uuid })
  await phone.age(10_000)
  const answers = await phone.run(Promise.all([1, 2, 3].map(() => me(yufu))))
  assert.deepEqual(
    answers.map((a) => a.statusCode),
    [200, 200, 200],
  )
  assert.equal(answers[0].data.uuid, before.uuid)
  assert.deepEqual(
    phone.sent().filter((n) => n !== 'GET /v1/me'),
    ['exchange', 'refresh', 'exchange'],
  )
  assert.deepEqual(events, [], 'the program gets no event')
})

test('a refresh token that is replayed after the window causes one silent log-in', async () => {
  const quick = await startService({ YUFU_REFRESH_GRACE: '0s' })
  let lose = false
  const phone = newPhone(quick, {
    fate: (made) => (lose && made.body?.includes('refresh_token=') ? ((lose = false), 'lost-answer') : 'ok'),
  })
  const yufu = phone.yufu()
  const before = await phone.run(yufu.session())
  await phone.age(3600_000)
  lose = true
  assert.deepEqual(await phone.run(yufu.session()), before)
  assert.deepEqual(phone.sent(), ['exchange', 'refresh', 'refresh', 'exchange'])
})

test('a session that has expired is replaced by one silent log-in', async () => {
  const short = await startService({
    YUFU_ACCESS_TOKEN_TTL: '1s',
    YUFU_REFRESH_GRACE: '1s',
    YUFU_SESSION_IDLE_TTL: '2s',
    YUFU_SESSION_MAX_TTL: '2s',
  })
  const phone = newPhone(short)
  const yufu = phone.yufu()
  await phone.run(yufu.session())
  // The server runs in real time, with the clock of this test. To ask it whether the
  // session has ended would need a token with a lifetime of a second, or of the
  // session's rest.
  const began = Date.now()
  while (Date.now() <= began + 2000) await new Promise((resolve) => setTimeout(resolve, 20))
  await phone.age(3000)
  await phone.run(yufu.session())
  assert.deepEqual(phone.sent(), ['exchange', 'refresh', 'exchange'])
})

test('a user that the platform blocks is signed out, without a loop', async () => {
  const phone = newPhone(service)
  const yufu = phone.yufu()
  const events = []
  yufu.on('signedout', (e) => events.push(e.code))
  yufu.on('error', (e) => events.push(`error ${e.code}`))
  await service.faults({ errcode: 40226, count: 1 })
  await assert.rejects(phone.run(yufu.session()), { code: 'user_blocked', status: 403 })
  for (let i = 0; i < 5; i++) await assert.rejects(phone.run(yufu.session()), { code: 'user_blocked' })
  assert.deepEqual(phone.sent(), ['exchange'])
  assert.deepEqual(events, ['user_blocked'])
  await phone.advance(61_000)
  await phone.run(yufu.session())
})

test('a code that WeChat refuses is replaced once', async () => {
  const phone = newPhone(service)
  await service.faults({ errcode: 40163, count: 1 })
  await phone.run(phone.yufu().session())
  assert.deepEqual(phone.sent(), ['exchange', 'exchange'])
  const other = newPhone(service, { codes: async () => 'invented' })
  await assert.rejects(other.run(other.yufu().session()), { code: /^code_(invalid|used)$/, status: 400 })
  assert.deepEqual(other.sent(), ['exchange', 'exchange'])
})

test('after WeChat asks for a pause, there is no request until it ends', async () => {
  const own = await startService()
  const phone = newPhone(own)
  const yufu = phone.yufu()
  await own.faults({ errcode: 45011, count: 1 })
  const error = await phone.run(yufu.session().catch((e) => e))
  assert.equal(error.code, 'platform_quota')
  assert(error.retryAfter >= 59 && error.retryAfter <= 60, `${error.retryAfter}`)
  await assert.rejects(phone.run(yufu.session()), { code: 'platform_quota' })
  assert.deepEqual(phone.sent(), ['exchange'])
})

test('the wait for a Retry-After date is bounded on a phone with a wrong clock', async () => {
  let down = true
  const tokens = await startTokens(
    {},
    (res) =>
      down &&
      (res.json(
        503,
        { error: 'temporarily_unavailable', error_code: 'storage_unavailable' },
        { 'Retry-After': new Date(Date.now() + 86400_000 * 400).toUTCString() },
      ),
      true),
  )
  const phone = newPhone(tokens)
  const yufu = phone.yufu()
  await assert.rejects(phone.run(yufu.session()), { code: 'storage_unavailable' })
  down = false
  await assert.rejects(phone.run(yufu.session()), { code: 'storage_unavailable' })
  await phone.advance(300_000)
  await phone.run(yufu.session())
  assert.deepEqual(phone.sent(), ['exchange', 'exchange'])
})

test('a login option that throws rejects with its error', async () => {
  const phone = newPhone(service)
  const yufu = phone.yufu({
    login() {
      throw new TypeError('of the program')
    },
  })
  await assert.rejects(phone.run(yufu.session()), { name: 'YufuError', errMsg: /of the program/ })
})

test('a short Retry-After is respected', async () => {
  let down = 2
  const tokens = await startTokens(
    {},
    (res) =>
      down-- > 0 &&
      (res.json(503, { error: 'temporarily_unavailable', error_code: 'storage_unavailable' }, { 'Retry-After': '2' }),
      true),
  )
  const phone = newPhone(tokens)
  const began = phone.clock.mono()
  await phone.run(phone.yufu().session())
  assert.deepEqual(phone.sent(), ['exchange', 'exchange', 'exchange'])
  assert(phone.clock.mono() - began >= 4000)
})

for (const [what, answer, sent] of [
  ['a 502 of a proxy', (res) => res.writeHead(502, { 'content-type': 'text/html' }).end('<html>'), 4],
  [
    'a page with status 200',
    (res) => res.writeHead(200, { 'content-type': 'text/html' }).end('<html>log in to the hotel'),
    4,
  ],
  ['a 400 that is not the service’s', (res) => res.writeHead(400).end('no'), 1],
  ['a redirect', (res) => res.writeHead(302, { location: '/elsewhere' }).end(), 1],
  ['an empty object', (res) => res.json(200, {}), 4],
  ['a 403 of a firewall', (res) => res.writeHead(403, { 'content-type': 'text/html' }).end('<html>'), 1],
  ['an unknown app', (res) => res.json(401, { error: 'invalid_client', error_code: 'app_unknown' }), 1],
  ['a wrong AppSecret', (res) => res.json(500, { error: 'server_error', error_code: 'platform_misconfigured' }), 1],
]) {
  test(`${what} does not end the session or cause many requests`, async () => {
    let wrong = false
    const tokens = await startTokens({}, (res) => wrong && (answer(res), true))
    const phone = newPhone(tokens)
    const yufu = phone.yufu()
    await phone.run(yufu.session())
    await phone.age(3600_000)
    const before = phone.stored()
    yufu.on('signedout', () => assert.fail('unexpected event signedout'))
    wrong = true
    await assert.rejects(phone.run(yufu.session()), { name: 'YufuError' })
    await assert.rejects(phone.run(yufu.session()), { name: 'YufuError' })
    assert.equal(phone.sent().length - 1, sent)
    assert.deepEqual(phone.stored(), before)
    wrong = false
    await phone.advance(10_000)
    await phone.run(yufu.session())
    assert.equal(phone.logins, 1)
  })
}

test('a changed clock only causes refreshes', async () => {
  const phone = newPhone(service)
  const yufu = phone.yufu()
  await phone.run(yufu.session())
  for (const turned of [-86400_000, 2 * 86400_000, -3600_000]) {
    phone.clock.turn(turned)
    assert.equal((await phone.run(me(yufu))).statusCode, 200)
  }
  assert.equal(phone.logins, 1)
  assert.equal(phone.sent().filter((n) => n === 'refresh').length, 3)
})

/** startTokens starts a double of the service whose tokens the test controls. */
async function startTokens(more, instead = () => false) {
  let n = 0
  const baseURL = await startServer((_req, res) => {
    if (instead(res)) return
    n++
    res.json(200, {
      access_token: `access${n}`,
      refresh_token: `yfr_${n}`,
      token_type: 'Bearer',
      expires_in: 600,
      uuid: 'u',
      bound: false,
      person: null,
      ...more,
    })
  })
  return { baseURL, codes: () => async () => `code${n}` }
}
