// Requests with the token: the allowed hosts, the handling of a 401, and the
// callbacks of the program.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newPhone, sdk, startServer, startService } from './service.mjs'

const service = await startService()

/** shop is a back end that checks each token at the service. */
async function shop(verdict = () => undefined) {
  const seen = []
  const url = await startServer(async (req, res) => {
    seen.push(req)
    const forced = verdict(req, seen.length)
    if (forced) return res.json(forced, {})
    const me = await fetch(`${service.baseURL}/v1/me`, { headers: { authorization: req.headers.authorization ?? '' } })
    if (!me.ok) return res.json(401, await me.json())
    res.json(200, { uuid: (await me.json()).uuid, url: req.url, method: req.method, body: req.body })
  })
  return { url, host: url.slice('http://'.length), seen, orders: `${url}/orders` }
}

test('a request has the token in its header and not in its URL', async () => {
  const back = await shop()
  const phone = newPhone(service)
  const yufu = phone.yufu({ apiHosts: [back.host] })
  const { data } = await phone.run(
    yufu.fetch({
      url: `${back.orders}?page=2`,
      header: { authorization: 'mine', 'X-Mine': 'kept' },
      data: { q: 'tea' },
    }),
  )
  assert.equal(data.url, '/orders?page=2&q=tea')
  const { access, refresh, uuid } = phone.stored()
  assert.equal(data.uuid, uuid)
  assert.equal(back.seen[0].headers.authorization, `Bearer ${access}`)
  assert.equal(back.seen[0].headers['x-mine'], 'kept')
  for (const { url } of phone.network.made) for (const secret of [access, refresh, uuid]) assert(!url.includes(secret))
  await phone.run(yufu.fetch({ url: back.orders, method: 'POST', data: { item: 'tea' } }))
  assert.equal(back.seen[1].body, '{"item":"tea"}')
})

test('the token is sent to listed hosts, and not to hosts that look similar', async () => {
  const phone = newPhone(service)
  const yufu = phone.yufu({
    baseURL: 'https://auth.example.com',
    apiHosts: ['api.example.com', 'API2.example.com:8443'],
  })
  for (const url of [
    'http://api.example.com/',
    'https://api.example.com.evil.com/',
    'https://evil.com/api.example.com',
    'https://evil.com?https://api.example.com/',
    'https://api.example.com@evil.com/',
    'https://api.example.com:x@evil.com/',
    'https://user@api.example.com/',
    'https://api.example.com\\@evil.com/',
    'https://api.example.com\\.evil.com',
    'https://api.example.com:8443/',
    'https://api2.example.com/',
    'https://sub.api.example.com/',
    'https://api.example.com./',
    'https://api.example.com%2eevil.com/',
    'https://api.example.com%00.evil.com',
    'https://api.example.com\n.evil.com/',
    'https://api.example.com\t/',
    ' https://api.example.com/',
    'https:/api.example.com/',
    'https:///api.example.com/',
    '//api.example.com/',
    '/orders',
    'orders',
    '',
    undefined,
    null,
    7,
    'https://аpi.example.com/',
    'https://api.example.com:44３/',
    'wss://api.example.com/',
    'javascript:alert(1)',
    'https://api。example.com/',
  ]) {
    await assert.rejects(phone.run(yufu.fetch({ url })), { code: 'host_not_listed' }, `${url}`)
  }
  assert.deepEqual(phone.sent(), [])
  assert.equal(phone.logins, 0)
  // A listed host needs a token first, and so fails with another error here.
  for (const url of [
    'https://api.example.com',
    'https://api.example.com:443/x',
    'HTTPS://API.example.com/',
    'https://api.example.com?x',
    'https://api.example.com#x',
    'https://api2.example.com:8443/',
    'https://auth.example.com/v1/me',
  ]) {
    const p = newPhone({}, { fate: () => 'lost-request', codes: async () => 'code' })
    const y = p.yufu({ baseURL: 'https://auth.example.com', apiHosts: ['api.example.com', 'API2.example.com:8443'] })
    await assert.rejects(p.run(y.fetch({ url })), { code: 'network' }, url)
  }
})

test('settings that could send tokens to wrong hosts are refused', () => {
  const phone = newPhone(service)
  const { createYufu } = phone.copy()
  for (const [options, what] of [
    [{ baseURL: 'http://auth.example.com' }, /unsafePlainHTTP/],
    [{ baseURL: 'auth.example.com' }, /baseURL/],
    [{ baseURL: 'https://auth.example.com/path' }, /baseURL/],
    [{ baseURL: 'https://me@auth.example.com' }, /baseURL/],
    [{ apiHosts: ['https://api.example.com'] }, /apiHosts/],
    [{ apiHosts: ['api.example.com/x'] }, /apiHosts/],
    [{ apiHosts: ['*.example.com'] }, /apiHosts/],
    [{ apiHosts: [''] }, /apiHosts/],
    [{ clientId: '' }, /clientId/],
    [{ clientId: 'wx 1' }, /clientId/],
    [{ clientId: undefined }, /clientId must be an appid.*undefined/],
    [{ clientId: null }, /clientId/],
    [{ clientId: 1 }, /clientId must be of type string, not number/],
    [{ clientId: ['wx1'] }, /clientId/],
    [{ clientId: 'a'.repeat(65) }, /clientId/],
    [{ baseURL: undefined }, /baseURL/],
    [{ baseURL: ['https://auth.example.com'] }, /baseURL must be of type string, not object/],
    [{ apiHosts: 'api.example.com' }, /apiHosts must be of type object, not string/],
    [{ apiHosts: {} }, /apiHosts must be an array/],
    [{ apiHosts: [undefined] }, /apiHosts/],
    [{ apiHosts: [7] }, /apiHosts/],
    [{ apihosts: [] }, /apihosts is not an option/],
    [{ clientID: 'wx1' }, /clientID is not an option/],
    [{ toString: 1 }, /toString is not an option/],
    [{ login: 'wx.login' }, /login must be of type function/],
    [{ device: {} }, /device must be of type string/],
    [{ unsafePlainHTTP: 'false' }, /unsafePlainHTTP must be of type boolean/],
    [{ wx: 'wx' }, /wx must be of type object/],
    [{ wx: {} }, /wx must have the method request/],
  ]) {
    assert.throws(
      () => createYufu({ baseURL: 'https://auth.example.com', clientId: 'wx1', ...options }),
      (e) => e.code === 'config' && what.test(e.errMsg),
      `${JSON.stringify(options)}`,
    )
  }
  for (const options of [undefined, null, 'wx1', {}]) assert.throws(() => createYufu(options), { code: 'config' })
  createYufu({
    baseURL: 'https://auth.example.com',
    clientId: 'wx1',
    login: false,
    device: '',
    apiHosts: undefined,
    wx: null,
  })
  createYufu({ baseURL: 'https://auth.example.com/', clientId: 'wx1' })
  createYufu({ baseURL: 'http://192.168.1.2:8080', clientId: 'wx1', unsafePlainHTTP: true })
  const bare = phone.load(sdk, { wx: undefined })
  assert.throws(() => bare.createYufu({ baseURL: 'https://auth.example.com', clientId: 'wx1' }), /no global wx/)
})

test('a back end on http is allowed only for a service on this machine', async () => {
  const phone = newPhone({}, { fate: () => 'lost-request', codes: async () => 'code' })
  const local = phone.yufu({ baseURL: 'http://127.0.0.1:8080', apiHosts: ['localhost:8090', 'api.example.com'] })
  await assert.rejects(phone.run(local.fetch({ url: 'http://localhost:8090/' })), { code: 'network' })
  await assert.rejects(phone.run(local.fetch({ url: 'http://api.example.com/' })), { code: 'host_not_listed' })
  await assert.rejects(phone.run(local.fetch({ url: 'https://api.example.com/' })), { code: 'network' })
})

test('a 401 causes one refresh and one repetition for any number of requests', async () => {
  const back = await shop()
  const phone = newPhone(service)
  const yufu = phone.yufu({ apiHosts: [back.host] })
  await phone.run(yufu.session())
  await service.revoke({ token: phone.stored().access })
  await phone.age(10_000)
  const answers = await phone.run(Promise.all(Array.from({ length: 8 }, () => yufu.fetch({ url: back.orders }))))
  assert.deepEqual(
    answers.map((a) => a.statusCode),
    Array(8).fill(200),
  )
  assert.deepEqual(
    phone.sent().filter((n) => n !== 'GET /orders'),
    ['exchange', 'refresh', 'exchange'],
  )
  assert.equal(back.seen.length, 16)
})

test('a request during the replacement of a refused token waits for the new one', async () => {
  const back = await shop()
  let slow = 1
  const phone = newPhone(service, {
    fate: (made) => (made.body?.includes('refresh_token=') && slow-- > 0 ? 'silent-request' : 'ok'),
  })
  const yufu = phone.yufu({ apiHosts: [back.host] })
  await phone.run(yufu.session())
  await service.revoke({ token: phone.stored().access })
  const first = yufu.fetch({ url: back.orders })
  await phone.advance(1000)
  const second = yufu.fetch({ url: back.orders })
  assert.deepEqual(
    (await phone.run(Promise.all([first, second]))).map((a) => a.statusCode),
    [200, 200],
  )
  assert.equal(back.seen.length, 3)
})

test('a second 401 is returned, and a back end that refuses all tokens does not cause a refresh each time', async () => {
  const back = await shop(() => 401)
  const good = await shop()
  const phone = newPhone(service)
  const yufu = phone.yufu({ apiHosts: [back.host, good.host] })
  await phone.run(yufu.session())
  await phone.age(10_000)
  assert.equal((await phone.run(yufu.fetch({ url: back.orders }))).statusCode, 401)
  assert.equal(back.seen.length, 2)
  for (let i = 0; i < 9; i++) {
    await phone.age(6000)
    assert.equal((await phone.run(yufu.fetch({ url: back.orders }))).statusCode, 401)
  }
  assert.deepEqual(
    phone.sent().filter((n) => !n.startsWith('GET')),
    ['exchange', 'refresh'],
  )
  assert.equal((await phone.run(yufu.fetch({ url: good.orders }))).statusCode, 200)
})

test('a new token is not refreshed when a back end refuses it', async () => {
  const back = await shop(() => 401)
  const phone = newPhone(service)
  const yufu = phone.yufu({ apiHosts: [back.host] })
  for (let i = 0; i < 4; i++) assert.equal((await phone.run(yufu.fetch({ url: back.orders }))).statusCode, 401)
  assert.deepEqual(phone.sent(), ['exchange', 'GET /orders', 'GET /orders', 'GET /orders', 'GET /orders'])
})

test('a back end that calls every token expired does not cause a refresh each time either', async () => {
  const url = await startServer((_req, res) => res.json(401, { code: 'token_expired' }))
  const phone = newPhone(service)
  const yufu = phone.yufu({ apiHosts: [url.slice(7)] })
  for (let i = 0; i < 9; i++) assert.equal((await phone.run(yufu.fetch({ url }))).statusCode, 401)
  assert.deepEqual(
    phone.sent().filter((n) => !n.startsWith('GET')),
    ['exchange', 'refresh'],
  )
})

test('a new token that was revoked is replaced', async () => {
  const back = await shop()
  const phone = newPhone(service)
  const yufu = phone.yufu({ apiHosts: [back.host] })
  await phone.run(yufu.session())
  await service.revoke({ token: phone.stored().access })
  assert.equal((await phone.run(yufu.fetch({ url: back.orders }))).statusCode, 200)
})

test('after a 401 a newer token of another page is used', async () => {
  const phone = newPhone(service)
  const yufu = phone.yufu()
  let first = true
  const back = await shop((_req) => {
    if (!first) return
    first = false
    // As if another page had refreshed during this request.
    const [[key, text]] = phone.storage.raw
    const stored = JSON.parse(text)
    refused = stored.access
    phone.storage.raw.set(key, JSON.stringify({ ...stored, access: other }))
    return 401
  })
  let refused
  await phone.run(yufu.session())
  const before = phone.stored()
  await phone.age(3600_000)
  await phone.run(yufu.session())
  const other = phone.stored().access
  phone.store({ access: before.access })
  const mine = phone.yufu({ apiHosts: [back.host] })
  const sent = phone.sent().length
  assert.equal((await phone.run(mine.fetch({ url: back.orders }))).statusCode, 200)
  assert.equal(refused, before.access)
  assert.deepEqual(phone.sent().slice(sent), ['GET /orders', 'GET /orders'])
})

test('request behaves like wx.request', async () => {
  const back = await shop((req) => (req.url === '/missing' ? 404 : undefined))
  const phone = newPhone(service)
  const yufu = phone.yufu({ apiHosts: [back.host] })
  const calls = []
  const request = (options) =>
    new Promise((done) => {
      const task = yufu.request({
        ...options,
        success: (r) => calls.push(`success ${r.statusCode}`),
        fail: (e) => calls.push(`fail ${e.code} ${typeof e.errMsg}`),
        complete: (r) => (calls.push(`complete ${r.statusCode ?? r.code}`), done(task)),
      })
      task.onHeadersReceived(() => calls.push('headers'))
      if (options.abort) task.abort()
    })
  await phone.run(request({ url: back.orders }))
  await phone.run(request({ url: `${back.url}/missing` }))
  await phone.run(request({ url: 'https://evil.example.com/' }))
  await phone.run(request({ url: back.orders, abort: true }))
  assert.deepEqual(calls, [
    'headers',
    'success 200',
    'complete 200',
    'headers',
    'success 404',
    'complete 404',
    'fail host_not_listed string',
    'complete host_not_listed',
    'fail aborted string',
    'complete aborted',
  ])
  assert.equal(back.seen.length, 2, 'a request that is aborted before it begins is not sent')
})

test('requests without callbacks, or with callbacks that throw, affect no others', async () => {
  const back = await shop()
  const phone = newPhone(service)
  const yufu = phone.yufu({ apiHosts: [back.host] })
  yufu.request({ url: 'https://evil.example.com/' })
  let completed = 0
  yufu.request({
    url: back.orders,
    success() {
      throw new Error('of the page')
    },
    fail: () => assert.fail('unexpected call of fail'),
    complete: () => completed++,
  })
  await assert.rejects(phone.advance(1000), /of the page/)
  assert.equal(completed, 1)
})

test('abort ends a running request', async () => {
  let arrived
  const here = new Promise((resolve) => (arrived = resolve))
  const url = await startServer(() => (arrived(), new Promise(() => {})))
  const phone = newPhone(service)
  const yufu = phone.yufu({ apiHosts: [url.slice(7)] })
  await phone.run(yufu.session())
  let failed
  const failure = new Promise((resolve) => (failed = resolve))
  const task = yufu.request({ url: `${url}/slow`, success: assert.fail, fail: failed })
  await here
  task.abort()
  assert.equal((await failure).code, 'aborted')
})

test('a failed request is returned and causes no refresh', async () => {
  const back = await shop()
  const phone = newPhone(service, { fate: (made) => (made.url.endsWith('/orders') ? 'lost-request' : 'ok') })
  const yufu = phone.yufu({ apiHosts: [back.host] })
  await assert.rejects(phone.run(yufu.fetch({ url: back.orders, method: 'POST', data: {} })), {
    code: 'network',
    errno: 600001,
  })
  await assert.rejects(phone.run(yufu.fetch({ url: back.orders, method: 'PATCH' })), {
    code: 'network',
    errMsg: /PATCH/,
  })
  assert.deepEqual(phone.sent(), ['exchange', 'POST /orders'])
})

test('clients of one app share their session, clients of different apps do not', async () => {
  const phone = newPhone(service)
  const [a, b] = [phone.yufu(), phone.yufu({ baseURL: `${service.baseURL}/` })]
  const other = phone.yufu({ clientId: 'wx0000000000000000' })
  const told = []
  b.on('unbound', () => told.push('b'))
  other.on('unbound', () => told.push('other'))
  const off = a.on('unbound', () => told.push('a'))
  off()
  await phone.run(Promise.all([a.session(), b.session()]))
  assert.equal(phone.logins, 1)
  assert.deepEqual(told, ['b'])
  await assert.rejects(phone.run(other.session()), { code: 'app_unknown' })
})

test('a frozen wx works', async () => {
  const phone = newPhone(service)
  const copy = phone.copy()
  const wx = Object.freeze({ ...phone.wx })
  await phone.run(Promise.all([phone.yufu({ wx }, copy).session(), phone.yufu({ wx }, copy).session()]))
  assert.equal(phone.logins, 1)
})

test('the option login replaces wx.login', async () => {
  const phone = newPhone(service)
  const codes = service.codes('another user')
  const yufu = phone.yufu({ login: ({ success, fail }) => codes().then((code) => success({ code }), fail) })
  const pending = yufu.session()
  // Real input that the phone does not track.
  await new Promise((resolve) => yufu.on('unbound', resolve))
  assert.match((await phone.run(pending)).uuid, /-/)
  assert.equal(phone.logins, 0)
})

test('a handler that throws does not affect other handlers', async () => {
  const phone = newPhone(service)
  const yufu = phone.yufu()
  const told = []
  yufu.on('unbound', () => {
    throw new Error('of the page')
  })
  yufu.on('unbound', () => told.push(1))
  await phone.run(yufu.session())
  assert.deepEqual(told, [1])
  await assert.rejects(phone.advance(10), /of the page/)
})

test('a log-out ends the session at the service, and the next request starts a new one', async () => {
  const back = await shop()
  const phone = newPhone(service)
  const yufu = phone.yufu({ apiHosts: [back.host] })
  const events = []
  yufu.on('signedout', (e) => events.push(e.code))
  const before = await phone.run(yufu.session())
  const { access, refresh } = phone.stored()
  await phone.run(yufu.logout())
  assert.deepEqual(events, ['logout'])
  assert.equal(phone.storage.raw.size, 0)
  const me = await fetch(`${service.baseURL}/v1/me`, { headers: { authorization: `Bearer ${access}` } })
  assert.equal((await me.json()).code, 'session_revoked')
  await phone.run(yufu.logout())
  assert.equal(phone.sent().filter((n) => n === 'revoke').length, 1)
  assert.equal((await phone.run(yufu.fetch({ url: back.orders }))).data.uuid, before.uuid)
  assert.notEqual(phone.stored().refresh, refresh)
})

test('a log-out waits for a log-in under way and ends its session', async () => {
  const phone = newPhone(service)
  const yufu = phone.yufu()
  await phone.run(Promise.all([yufu.session(), yufu.logout()]))
  assert.deepEqual(phone.sent(), ['exchange', 'revoke'])
  assert.equal(phone.storage.raw.size, 0)
})

test('a request that is refused after a log-out does not log in again', async () => {
  const phone = newPhone(service)
  let yufu
  const back = await shop(async () => undefined)
  const url = await startServer(async (_req, res) => {
    const out = yufu.logout()
    await out
    res.json(401, {})
  })
  yufu = phone.yufu({ apiHosts: [url.slice(7), back.host] })
  await phone.run(yufu.session())
  await phone.age(10_000)
  assert.equal((await yufu.fetch({ url: `${url}/x` })).statusCode, 401)
  assert.deepEqual(
    phone.sent().filter((n) => !n.startsWith('GET')),
    ['exchange', 'revoke'],
  )
})

test('a log-out without a network deletes the session and rejects', async () => {
  let offline = false
  const phone = newPhone(service, { fate: () => (offline ? 'lost-request' : 'ok') })
  const yufu = phone.yufu()
  await phone.run(yufu.session())
  offline = true
  await assert.rejects(phone.run(yufu.logout()), { code: 'network' })
  assert.equal(phone.storage.raw.size, 0)
})
