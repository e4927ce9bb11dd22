// What phones do to a program: the background, the storage, the clock.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newPhone, startServer, startService } from './service.mjs'

const service = await startService()

const me = (yufu) => yufu.fetch({ url: `${service.baseURL}/v1/me` })

/** loggedIn returns a phone whose next request has to refresh. */
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
      test(`a refresh that the background interrupts (${fate}, ${away / 1000} s, ${onReturn}) goes on when the program is shown`, async () => {
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

test('where nobody tells that the program is shown, an interrupted refresh goes on all the same', async () => {
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
  test(`a code that WeChat gave while the program stood still is used (${onReturn})`, async () => {
    let give
    const phone = newPhone(service, { onReturn, codes: () => new Promise((resolve) => (give = resolve)) })
    const pending = phone.yufu().session()
    phone.background()
    // The phone waits for real input, so its clock is moved by hand.
    while (phone.clock.step(600_000));
    assert(phone.suspended)
    give(await service.codes(phone.user)())
    await new Promise((resolve) => setImmediate(resolve))
    phone.foreground()
    assert.match((await phone.run(pending)).uuid, /-/)
    assert.equal(phone.logins, 1)
    await phone.run(phone.yufu().session())
    assert.deepEqual(phone.sent(), ['exchange'], 'the token is as old as its request, not as the wait for the code')
  })
}

test('a log-in that WeChat forgot in the background is begun again on return', async () => {
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

test('a program that is destroyed in the background starts with what was stored', async () => {
  const { phone } = await loggedIn()
  phone.background()
  await phone.advance(31 * 60_000)
  assert.equal(phone.foreground(), false)
  phone.restart()
  assert.equal((await phone.run(me(phone.yufu()))).statusCode, 200)
  assert.deepEqual(phone.sent(), ['refresh', 'GET /v1/me'])
  assert.equal(phone.logins, 1)
})

test('a program that is destroyed while it refreshes goes on with the token it had', async () => {
  let lose = true
  const { phone, yufu } = await loggedIn({
    fate: (made) => (lose && made.body?.includes('refresh_token=') ? 'silent-answer' : 'ok'),
  })
  me(yufu).then(assert.fail, assert.fail)
  await phone.advance(100)
  lose = false
  phone.restart()
  assert.equal((await phone.run(me(phone.yufu()))).statusCode, 200)
  assert.equal(phone.logins, 1, 'within the grace window nobody logs in again')
})

test('coming back without a need makes no request', async () => {
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

test('a request of the program that the background interrupts is told so, and ends no session', async () => {
  const url = await startServer(() => new Promise(() => {}))
  const phone = newPhone(service)
  const yufu = phone.yufu({ apiHosts: [url.slice(7)] })
  await phone.run(yufu.session())
  const before = phone.stored()
  const pending = yufu.fetch({ url: `${url}/slow` })
  // The server never answers, so the phone is not waited for.
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
  ['a refresh token that is none', (s) => ({ ...s, refresh: 'a b\r\nc' })],
  ['a refresh token that is an object', (s) => ({ ...s, refresh: {} })],
]) {
  test(`storage with ${what} heals by a log-in`, async () => {
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
  ['times that are none', { at: 'x', until: null }],
  ['no uuid', { uuid: null }],
  ['times of the future', { at: 9e15, until: 9e15 }],
]) {
  test(`storage with ${what} heals by a refresh`, async () => {
    const { phone, yufu } = await loggedIn()
    phone.store(change)
    assert.equal((await phone.run(me(yufu))).statusCode, 200)
    assert.deepEqual(phone.sent(), ['exchange', 'refresh', 'GET /v1/me'])
    assert.match(phone.stored().uuid, /-/)
  })
}

test('a mangled refresh token is refused by the service, and replaced by a log-in', async () => {
  const { phone, yufu } = await loggedIn()
  phone.store({ refresh: phone.stored().refresh.slice(0, -3) })
  assert.equal((await phone.run(me(yufu))).statusCode, 200)
  assert.deepEqual(phone.sent(), ['exchange', 'refresh', 'exchange', 'GET /v1/me'])
})

test('storage that the phone cannot read, or that is cleared, is a log-in', async () => {
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

test('an ended session that the phone does not forget is replaced all the same', async () => {
  const { phone, yufu } = await loggedIn()
  phone.wx.removeStorageSync = () => {
    throw new Error('removeStorageSync:fail')
  }
  phone.store({ refresh: phone.stored().refresh.slice(0, -3) })
  assert.equal((await phone.run(me(yufu))).statusCode, 200)
  assert.deepEqual(phone.sent(), ['exchange', 'refresh', 'exchange', 'GET /v1/me'])
})

test('where the phone stores nothing, the program works until it ends, and is told', async () => {
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

test('tokens are in the storage, and nowhere else that a program can look', async () => {
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
  assert(found.length > 100, 'it looks into things')
  for (const text of found) for (const secret of secrets) assert(!text.includes(secret), text.slice(0, 80))
  assert.deepEqual(logged, [])
})

/** everything returns all texts that can be reached from a value: properties with symbols and hidden ones, too. */
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
