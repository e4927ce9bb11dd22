// The effects of a phone on a program: the background, the storage, the clock.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newPhone, startServer, startService } from './service.mjs'

const service = await startService()

const me = (yufu) => yufu.fetch({ url: `${service.baseURL}/v1/me` })

/** loggedIn returns a phone whose next request must refresh. */
async function loggedIn(options) {
  const phone = newPhone(service, options)
  const yufu = phone.yufu()
  const events = []
  for (const e of ['signedout', 'error']) yufu.on(e, (d) => events.push(`${e} ${d.code}`))
  await phone.run(yufu.session())
  await phone.age(3600_000)
  return { phone, yufu, events }
}

for (const onReturn of ['callbacks first', 'timers first']) {
  for (const fate of ['silent-request', 'silent-answer']) {
    for (const away of [20_000, 20 * 60_000]) {
      test(`a refresh interrupted by the background (${fate}, ${away / 1000} s, ${onReturn}) continues when the program is shown`, async () => {
        let lose = true
        const { phone, yufu, events } = await loggedIn({
          onReturn,
          fate: (made) => (lose && made.body?.includes('refresh_token=') ? fate : 'ok'),
        })
        const before = phone.stored()
        const pending = me(yufu)
        await phone.advance(100)
        phone.background()
        await phone.advance(away)
        assert(phone.suspended)
        const sent = phone.sent().length
        lose = false
        assert(phone.foreground())
        assert.equal((await phone.run(pending)).statusCode, 200)
        assert.deepEqual(phone.sent().slice(sent), ['refresh', 'GET /v1/me'])
        assert.notEqual(phone.stored().refresh, before.refresh)
        assert.deepEqual(events, [])
      })
    }
  }
}

test('an interrupted refresh continues on a platform without onAppShow', async () => {
  let lose = true
  const phone = newPhone(service, {
    fate: (made) => (lose && made.body?.includes('refresh_token=') ? 'silent-request' : 'ok'),
  })
  delete phone.wx.onAppShow
  const yufu = phone.yufu()
  await phone.run(yufu.session())
  await phone.age(3600_000)
  const pending = me(yufu)
  await phone.advance(100)
  phone.background()
  await phone.advance(600_000)
  lose = false
  phone.foreground()
  assert.equal((await phone.run(pending)).statusCode, 200)
})

for (const onReturn of ['callbacks first', 'timers first']) {
  test(`a code that arrived while the program was suspended is used (${onReturn})`, async () => {
    let give
    const phone = newPhone(service, { onReturn, codes: () => new Promise((resolve) => (give = resolve)) })
    const pending = phone.yufu().session()
    phone.background()
    // The phone waits for real input, so the test moves its clock.
    while (phone.clock.step(600_000));
    assert(phone.suspended)
    give(await service.codes(phone.user)())
    await new Promise((resolve) => setImmediate(resolve))
    phone.foreground()
    assert.match((await phone.run(pending)).uuid, /-/)
    assert.equal(phone.logins, 1)
    await phone.run(phone.yufu().session())
    assert.deepEqual(
      phone.sent(),
      ['exchange'],
      'the lifetime of the token counts from its request, not from the wait for the code',
    )
  })
}

test('a log-in that WeChat dropped in the background is repeated on return', async () => {
  let forget = true
  const phone = newPhone(service)
  const codes = service.codes(phone.user)
  const other = newPhone(service, { codes: async () => (forget ? undefined : codes()) })
  const pending = other.yufu().session()
  await other.advance(100)
  other.background()
  await other.advance(600_000)
  forget = false
  other.foreground()
  assert.match((await other.run(pending)).uuid, /-/)
  assert.equal(other.logins, 2)
})

test('a program that is destroyed in the background starts with the stored session', async () => {
  const { phone } = await loggedIn()
  phone.background()
  await phone.advance(31 * 60_000)
  assert.equal(phone.foreground(), false)
  phone.restart()
  assert.equal((await phone.run(me(phone.yufu()))).statusCode, 200)
  assert.deepEqual(phone.sent(), ['refresh', 'GET /v1/me'])
  assert.equal(phone.logins, 1)
})

test('a program that is destroyed during a refresh continues with its old token', async () => {
  let lose = true
  const { phone, yufu } = await loggedIn({
    fate: (made) => (lose && made.body?.includes('refresh_token=') ? 'silent-answer' : 'ok'),
  })
  me(yufu).then(assert.fail, assert.fail)
  await phone.advance(100)
  lose = false
  phone.restart()
  assert.equal((await phone.run(me(phone.yufu()))).statusCode, 200)
  assert.equal(phone.logins, 1, 'within the grace window there is no new log-in')
})

test('a return with a valid token makes no request', async () => {
  const { phone } = await loggedIn()
  for (let i = 0; i < 3; i++) {
    phone.background()
    await phone.advance(600_000)
    phone.foreground()
    await phone.advance(1000)
  }
  assert.deepEqual(phone.sent(), ['exchange'])
})

test('a back-off ends when the program is shown', async () => {
  let offline = true
  const { phone, yufu } = await loggedIn({
    fate: (made) => (offline && made.body?.includes('refresh_token=') ? 'lost-request' : 'ok'),
  })
  const pending = me(yufu)
  await phone.advance(1)
  phone.background()
  offline = false
  const before = phone.clock.mono()
  phone.foreground()
  await phone.advance(0)
  assert.deepEqual(phone.sent(), ['exchange', 'refresh', 'refresh', 'GET /v1/me'])
  assert.equal(phone.clock.mono(), before)
  await phone.run(pending)
})

test('a request that the background interrupts fails with interrupted, and the session continues', async () => {
  const url = await startServer(() => new Promise(() => {}))
  const phone = newPhone(service)
  const yufu = phone.yufu({ apiHosts: [url.slice(7)] })
  await phone.run(yufu.session())
  const before = phone.stored()
  const pending = yufu.fetch({ url: `${url}/slow` })
  // The server never answers, so the test does not wait for the phone.
  await new Promise((resolve) => setImmediate(resolve))
  phone.background()
  while (phone.clock.step(phone.clock.mono() + 6000) && !phone.suspended);
  phone.foreground()
  await assert.rejects(pending, { code: 'interrupted', errno: 600003 })
  assert.deepEqual(phone.stored(), before)
})

for (const [what, damage] of [
  ['text', () => 'garbage'],
  ['a number', () => 7],
  ['null', () => null],
  ['a list', () => []],
  ['nothing in it', () => ({})],
  ['no refresh token', (s) => ({ ...s, refresh: undefined })],
  ['a malformed refresh token', (s) => ({ ...s, refresh: 'a b\r\nc' })],
  ['a refresh token that is an object', (s) => ({ ...s, refresh: {} })],
]) {
  test(`storage with ${what} is repaired by a log-in`, async () => {
    const { phone, yufu } = await loggedIn()
    const [[key, text]] = phone.storage.raw
    phone.storage.raw.set(key, JSON.stringify(damage(JSON.parse(text))))
    assert.equal((await phone.run(me(yufu))).statusCode, 200)
    assert.deepEqual(phone.sent(), ['exchange', 'exchange', 'GET /v1/me'])
    assert.match(phone.stored().refresh, /^yfr_/)
  })
}

for (const [what, change] of [
  ['no access token', { access: undefined }],
  ['an access token with a line break', { access: 'a\r\nX: y' }],
  ['invalid times', { at: 'x', until: null }],
  ['no uuid', { uuid: null }],
  ['times of the future', { at: 9e15, until: 9e15 }],
]) {
  test(`storage with ${what} is repaired by a refresh`, async () => {
    const { phone, yufu } = await loggedIn()
    phone.store(change)
    assert.equal((await phone.run(me(yufu))).statusCode, 200)
    assert.deepEqual(phone.sent(), ['exchange', 'refresh', 'GET /v1/me'])
    assert.match(phone.stored().uuid, /-/)
  })
}

test('an invalid refresh token is refused by the service and replaced by a log-in', async () => {
  const { phone, yufu } = await loggedIn()
  phone.store({ refresh: phone.stored().refresh.slice(0, -3) })
  assert.equal((await phone.run(me(yufu))).statusCode, 200)
  assert.deepEqual(phone.sent(), ['exchange', 'refresh', 'exchange', 'GET /v1/me'])
})

test('storage that is unreadable or cleared causes a log-in', async () => {
  const { phone, yufu } = await loggedIn()
  const get = phone.wx.getStorageSync
  phone.wx.getStorageSync = () => {
    throw new Error('getStorageSync:fail')
  }
  const pending = phone.run(me(yufu))
  setTimeout(() => (phone.wx.getStorageSync = get))
  assert.equal((await pending).statusCode, 200)
  phone.wx.clearStorageSync()
  assert.equal((await phone.run(me(yufu))).statusCode, 200)
})

test('an ended session that the phone cannot delete is replaced', async () => {
  const { phone, yufu } = await loggedIn()
  phone.wx.removeStorageSync = () => {
    throw new Error('removeStorageSync:fail')
  }
  phone.store({ refresh: phone.stored().refresh.slice(0, -3) })
  assert.equal((await phone.run(me(yufu))).statusCode, 200)
  assert.deepEqual(phone.sent(), ['exchange', 'refresh', 'exchange', 'GET /v1/me'])
})

test('if the phone cannot store, the program works until it ends and gets an error event', async () => {
  const phone = newPhone(service)
  const yufu = phone.yufu()
  const errors = []
  yufu.on('error', (e) => errors.push(e.code))
  phone.storage.full = true
  for (let i = 0; i < 3; i++) assert.equal((await phone.run(me(yufu))).statusCode, 200)
  assert.equal(phone.logins, 1)
  assert.deepEqual(errors, ['storage'])
  phone.storage.full = false
  await phone.age(3600_000)
  await phone.run(me(yufu))
  assert.match(phone.stored().refresh, /^yfr_/)
  assert.deepEqual(
    phone.sent().filter((n) => !n.startsWith('GET')),
    ['exchange', 'refresh'],
  )
})

test('tokens are only in the storage, and not reachable from the objects of a program', async () => {
  const logged = []
  const phone = newPhone(service)
  const console = new Proxy(
    {},
    {
      get:
        () =>
        (...args) =>
          logged.push(args),
    },
  )
  const yufu = phone
    .load(phone.sdk, { console })
    .createYufu({ baseURL: service.baseURL, clientId: 'wxdevelopment0001' })
  const seen = [yufu, phone.wx]
  for (const e of ['unbound', 'bound', 'signedout', 'error']) yufu.on(e, (d) => seen.push(d))
  seen.push(await phone.run(yufu.session()))
  const secrets = [phone.stored().access, phone.stored().refresh]
  await service.revoke({ token: secrets[0] })
  await phone.age(3600_000)
  await phone.run(yufu.session())
  secrets.push(phone.stored().access, phone.stored().refresh)
  seen.push(await phone.run(yufu.fetch({ url: 'https://evil.example.com/' }).catch((e) => e)))
  seen.push(await phone.run(yufu.bind({ method: 'facts', fields: {} }).catch((e) => e)))
  const found = everything(seen)
  assert(found.length > 100, 'the search must find many texts')
  for (const text of found) for (const secret of secrets) assert(!text.includes(secret), text.slice(0, 80))
  assert.deepEqual(logged, [])
})

/** everything returns all texts that can be reached from a value, also over hidden properties and symbols. */
function everything(value, seen = new Set()) {
  if (typeof value === 'string') return [value]
  if (value === null || (typeof value !== 'object' && typeof value !== 'function') || seen.has(value)) return []
  seen.add(value)
  return [
    ...Reflect.ownKeys(value).flatMap((k) => [
      String(k),
      ...everything(Reflect.getOwnPropertyDescriptor(value, k).value, seen),
    ]),
  ]
}
