// The test phone behaves like the environment of a mini-program.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { createPhone } from '../dist/testing.mjs'
import { clientId, root, startServer, startService } from './service.mjs'

let acted = 0
const url = await startServer((req, res) => {
  acted++
  if (req.url === '/never') return
  const status = Number(req.url.slice(1)) || 200
  res.json(
    status,
    { method: req.method, url: req.url, type: req.headers['content-type'], body: req.body, cookie: req.headers.cookie },
    { 'X-Some-Thing': '1', 'Set-Cookie': 'a=b' },
  )
})

/** ask calls wx.request and returns a promise of its callbacks, in order. */
const ask = (phone, options) =>
  new Promise((resolve) => {
    const calls = []
    const note = (name) => (result) => calls.push([name, result])
    phone.wx.request({ url, ...options, success: note('success'), fail: note('fail'), complete: () => resolve(calls) })
  })

test('every answer is a success, followed by complete', async () => {
  const phone = createPhone({ virtual: true })
  for (const status of [200, 401, 500]) {
    const [[name, result]] = await phone.run(ask(phone, { url: `${url}/${status}` }))
    assert.deepEqual([name, result.statusCode, result.errMsg], ['success', status, 'request:ok'])
  }
})

test('data is sent as by wx.request, and there is no cookie jar', async () => {
  const phone = createPhone({ virtual: true })
  const answer = async (options) => (await phone.run(ask(phone, options)))[0][1].data
  assert.equal((await answer({ data: { a: '1 &', b: 2 } })).url, '/?a=1%20%26&b=2')
  assert.deepEqual(await answer({ method: 'POST', data: { a: 1 } }), {
    method: 'POST',
    url: '/',
    type: 'application/json',
    body: '{"a":1}',
  })
  const form = { method: 'POST', header: { 'Content-Type': 'application/x-www-form-urlencoded' } }
  assert.equal((await answer({ ...form, data: { a: '1 &' } })).body, 'a=1%20%26')
  assert.equal((await answer({ ...form, data: 'as=it+is' })).body, 'as=it+is')
  assert.equal(typeof (await answer({ dataType: 'text' })), 'string')
  assert((await answer({ responseType: 'arraybuffer' })) instanceof ArrayBuffer)
})

test('header names have any case', async () => {
  const seen = new Set()
  let n = 0
  const phone = createPhone({ virtual: true, random: () => (n++ % 3) / 3 })
  for (let i = 0; i < 9; i++) {
    const [[, { header }]] = await phone.run(ask(phone, {}))
    seen.add(Object.keys(header).find((name) => name.toLowerCase() === 'x-some-thing'))
  }
  assert.deepEqual([...seen].sort(), ['X-SOME-THING', 'X-Some-Thing', 'x-some-thing'])
})

test('failures have the texts of WeChat', async () => {
  const phone = createPhone({ virtual: true, domains: [url.slice(7), '127.0.0.1:9'] })
  const failure = async (options) => {
    const [[name, error]] = await phone.run(ask(phone, options))
    assert.equal(name, 'fail')
    return [error.errMsg.slice(0, 20), error.errno]
  }
  assert.deepEqual(await failure({ method: 'PATCH' }), ['request:fail method ', undefined])
  assert.deepEqual(await failure({ url: 'https://example.com' }), ['request:fail url not', 600002])
  assert.deepEqual(await failure({ url: 'http://127.0.0.1:9/' }), ['request:fail errcode', 600001])
})

test('the timeout is 60 s, or that of the request', async () => {
  for (const [timeout, ms] of [
    [undefined, 60000],
    [1500, 1500],
  ]) {
    const phone = createPhone({ virtual: true, fate: () => 'silent-request' })
    const [[name, error]] = await phone.run(ask(phone, { timeout }))
    assert.deepEqual([name, error.errMsg, phone.clock.mono()], ['fail', 'request:fail timeout', ms])
  }
})

for (const [fate, acts] of [
  ['lost-request', 0],
  ['lost-answer', 1],
  ['silent-request', 0],
  ['silent-answer', 1],
]) {
  test(`a request with the fate ${fate} ${acts ? 'reaches' : 'does not reach'} the server`, async () => {
    const phone = createPhone({ virtual: true, fate: () => fate })
    const before = acted
    assert.equal((await phone.run(ask(phone, { timeout: 1000 })))[0][0], 'fail')
    assert.equal(acted - before, acts)
    assert.equal(phone.network.made[0].answered, undefined)
  })
}

test('ten requests run concurrently, the others wait', async () => {
  const phone = createPhone({ virtual: true })
  const all = Array.from({ length: 25 }, () => ask(phone, {}))
  assert.equal(phone.network.made.length, 10)
  await phone.run(Promise.all(all))
  assert.deepEqual([phone.network.made.length, phone.network.maxConcurrent], [25, 10])
})

test('a missing key is an empty string, values are copied, and the size is limited', async () => {
  const { wx } = createPhone()
  assert.equal(wx.getStorageSync('nothing'), '')
  const value = { a: [1] }
  wx.setStorageSync('k', value)
  value.a.push(2)
  assert.deepEqual(wx.getStorageSync('k'), { a: [1] })
  assert.throws(() => wx.setStorageSync('k', 'x'.repeat(1 << 20)), /exceed/)
  for (let i = 0; i < 9; i++) wx.setStorageSync(`k${i}`, 'x'.repeat((1 << 20) - 2))
  assert.throws(
    () => wx.setStorageSync('more', 'x'.repeat((1 << 20) - 2)) || wx.setStorageSync('most', 'x'.repeat((1 << 20) - 2)),
    /exceed/,
  )
  wx.removeStorageSync('k')
  assert.equal(wx.getStorageSync('k'), '')
  const missing = await new Promise((fail) => wx.getStorage({ key: 'k', fail }))
  assert.match(missing.errMsg, /getStorage:fail/)
})

test('a program runs in the background for 5 s; then it is suspended, and callbacks are delivered on return', async () => {
  const phone = createPhone({ virtual: true, fate: ({ url }) => (url.endsWith('/never') ? 'silent-request' : 'ok') })
  const calls = []
  const { setTimeout } = phone.load('module.exports = { setTimeout }')
  phone.wx.onAppHide(() => calls.push('hide'))
  phone.wx.onAppShow(() => calls.push('show'))
  setTimeout(() => calls.push('after 4 s'), 4000)
  setTimeout(() => calls.push('after 9 s'), 9000)
  setTimeout(() => calls.push('after 99 s'), 99_000)
  phone.wx.request({ url: `${url}/never`, fail: ({ errno }) => calls.push(errno) })
  phone.background()
  await phone.advance(20_000)
  assert.deepEqual(calls, ['hide', 'after 4 s'])
  assert(phone.foreground())
  assert.deepEqual(calls, ['hide', 'after 4 s', 600003, 'after 9 s', 'show'])
  await phone.advance(80_000)
  assert.equal(calls.at(-1), 'after 99 s')
})

test('after 30 min in the background only the storage remains', async () => {
  const phone = createPhone({ virtual: true })
  phone.wx.setStorageSync('k', 1)
  const { setTimeout } = phone.load('module.exports = { setTimeout }')
  setTimeout(assert.fail, 3600_000)
  phone.wx.onAppShow(assert.fail)
  phone.background()
  await phone.advance(31 * 60_000)
  assert.equal(phone.foreground(), false)
  const before = phone.wx
  phone.restart()
  assert.notEqual(phone.wx, before)
  assert.equal(phone.wx.getStorageSync('k'), 1)
  await phone.advance(3600_000)
})

test('wx.login only calls back, and at most four times a second', async () => {
  let n = 0
  const phone = createPhone({ virtual: true, codes: async () => `c${++n}` })
  const login = () =>
    new Promise((resolve) =>
      phone.wx.login({ success: ({ code }) => resolve(code), fail: ({ errMsg }) => resolve(errMsg) }),
    )
  const answers = await phone.run(Promise.all([1, 2, 3, 4, 5].map(login)))
  assert.deepEqual([answers.slice(0, 4), phone.loginsRefused], [['c1', 'c2', 'c3', 'c4'], 1])
  assert.match(answers[4], /^login:fail/)
  await phone.advance(1000)
  assert.equal(await phone.run(login()), 'c5')
})

test('a changed wall clock affects no timer', async () => {
  const phone = createPhone({ virtual: true })
  const { setTimeout, Date: PhoneDate } = phone.load('module.exports = { setTimeout, Date }')
  let rang = false
  setTimeout(() => (rang = true), 1000)
  const before = PhoneDate.now()
  phone.clock.turn(-3600_000)
  assert.equal(PhoneDate.now() - before, -3600_000)
  assert.equal(new PhoneDate().getTime(), PhoneDate.now())
  await phone.advance(999)
  assert.equal(rang, false)
  await phone.advance(1)
  assert.equal(rang, true)
})

test('a program has the language and wx, and no globals of the test', () => {
  const phone = createPhone()
  const found = phone.load(`module.exports = {
    here: [typeof wx, typeof setTimeout, typeof clearInterval, typeof Promise, typeof Date, typeof JSON, typeof Map],
    not: [typeof URL, typeof fetch, typeof TextEncoder, typeof atob, typeof crypto, typeof AbortController, typeof structuredClone, typeof queueMicrotask, typeof process, typeof require, typeof globalThis, typeof Buffer, typeof BigInt, typeof setImmediate],
  }`)
  assert(!found.here.includes('undefined'))
  assert.deepEqual([...new Set(found.not)], ['undefined'])
})

test('promises of iOS 15 run as macrotasks and otherwise work', async () => {
  const phone = createPhone({ virtual: true, ios15: true })
  const { order, all } = phone.load(`
    var order = []
    setTimeout(function () { order.push('timer') }, 0)
    Promise.resolve().then(function () { order.push('then') })
    order.push('sync')
    var P = Promise
    exports.all = P.all([1, P.resolve(2), new P(function (r) { setTimeout(function () { r(P.resolve(3)) }, 50) })])
      .then(function (v) { throw new Error(v.join()) }).then(null, function (e) { return P.race([P.reject(e), P.resolve(1)]) }).catch(function (e) { return e.message })
    exports.order = order`)
  assert.deepEqual(order, ['sync'])
  await phone.advance(1)
  assert.deepEqual(order, ['sync', 'timer', 'then'], 'the then runs after a timer that was set before it')
  assert.equal(await phone.run(all), '1,2,3')
})

test('a wait for a promise that never settles is an error', async () => {
  const phone = createPhone({ virtual: true })
  await assert.rejects(phone.run(new Promise(() => {})), /never settles/)
})

test('a client that the phone makes uses the phone’s clock', async () => {
  const service = await startService()
  const phone = createPhone({ virtual: true, codes: service.codes('phone') })
  const yufu = phone.createYufu({ baseURL: service.baseURL, clientId })
  await phone.run(yufu.session())
  await phone.advance(3600_000)
  await phone.run(yufu.session())
  const refreshes = () => phone.network.made.filter(({ body }) => body?.includes('grant_type=refresh_token')).length
  assert.equal(refreshes(), 1, 'an hour passed on the phone, and no time on the computer')
  phone.restart()
  assert.match((await phone.run(phone.createYufu({ baseURL: service.baseURL, clientId }).session())).uuid, /-/)
  assert.equal(phone.logins, 1)
})

for (const language of ['en', 'zh']) {
  test(`the example of the guide (${language}) works unchanged`, async () => {
    const service = await startService()
    const guide = readFileSync(join(root, '../../deploy/guide', language, 'miniprogram.md'), 'utf8')
    const [code, ...others] = [...guide.matchAll(/```js\n([^`]*testing[^`]*)```/g)].map((m) => m[1])
    assert.equal(others.length, 0)
    assert(code.includes("'http://127.0.0.1:8080'"))
    const testing = pathToFileURL(join(root, 'dist/testing.mjs')).href
    const text = code
      .replace("'yufu-miniprogram/testing'", JSON.stringify(testing))
      .replace("'http://127.0.0.1:8080'", JSON.stringify(service.baseURL))
    globalThis.codeFromTheSimulator = service.codes('guide')
    const { phone, yufu } = await import(`data:text/javascript,${encodeURIComponent(text)};export { phone, yufu }`)
    assert.equal(phone.logins, 1)
    await phone.advance(3600_000)
    await phone.run(yufu.session())
    assert.equal(phone.network.made.length, 2, 'the token was refreshed after an hour on the phone')
  })
}
