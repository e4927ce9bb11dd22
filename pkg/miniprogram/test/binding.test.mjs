// Binding at the real service, with the persons of `yufu dev`.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newPhone, post, startService } from './service.mjs'

const facts = (employee_no, name) => ({ method: 'facts', fields: { employee_no, name } })
const lilei = facts('1001', '李雷')

async function loggedIn(options) {
  const service = await startService()
  const phone = newPhone(service, options)
  const yufu = phone.yufu()
  const before = await phone.run(yufu.session())
  const events = []
  for (const e of ['bound', 'unbound', 'signedout', 'error'])
    yufu.on(e, (d) => events.push(`${e} ${d.person?.name ?? d.code ?? ''}`.trim()))
  return { service, phone, yufu, before, events, me: () => phone.run(yufu.fetch({ url: `${service.baseURL}/v1/me` })) }
}

test('facts bind the user, unbinding works, and the session continues', async () => {
  const { phone, yufu, before, events, me } = await loggedIn()
  const session = await phone.run(yufu.bind(lilei))
  assert.equal(session.uuid, before.uuid)
  assert.equal(session.person.external_id, '1001')
  assert.deepEqual((await me()).data.person, session.person)
  await phone.age(3600_000)
  assert.deepEqual(await phone.run(yufu.session()), session, 'the same session after a refresh')
  assert.deepEqual(await phone.run(yufu.unbind()), before)
  assert.deepEqual((await me()).data.person, null)
  assert.deepEqual(events, ['bound 李雷', 'unbound'])
  assert.equal(phone.logins, 1)
})

test('a call that changes nothing renews no token', async () => {
  const { phone, yufu, me } = await loggedIn()
  const before = phone.stored()
  for (let n = 0; n < 3; n++) {
    await phone.age(10_000)
    assert.equal((await phone.run(yufu.unbind())).bound, false)
  }
  assert.deepEqual(phone.stored(), before)
  await phone.run(yufu.bind(lilei))
  const bound = phone.stored()
  assert((await phone.run(yufu.bind(lilei))).bound)
  assert.deepEqual(phone.stored(), bound)
  assert.equal((await me()).statusCode, 200)
  assert(!phone.sent().includes('refresh'))
})

test('a phone number binds the user', async () => {
  const { service, phone, yufu } = await loggedIn()
  const { code } = await post(`${service.wechatsim}/sim/phone-codes`, { user: phone.user, phone: '13800001002' })
  assert.equal((await phone.run(yufu.bind({ method: 'phone', code }))).person.name, '韩梅梅')
})

test('facts without a match are refused, and guessing is delayed', async () => {
  const { phone, yufu, before } = await loggedIn()
  await assert.rejects(phone.run(yufu.bind(facts('1001', '韩梅梅'))), { code: 'binding_no_match', status: 422 })
  let error
  for (let i = 0; i < 20 && error?.code !== 'binding_delayed'; i++)
    error = await phone.run(yufu.bind(facts('1001', '韩梅梅')).catch((e) => e))
  assert.equal(error.code, 'binding_delayed')
  assert(error.retryAfter > 0)
  await assert.rejects(phone.run(yufu.bind({ method: 'nonsense' })), { code: 'invalid_request', status: 400 })
  assert.deepEqual(await phone.run(yufu.session()), before)
})

for (const fate of ['lost-request', 'lost-answer']) {
  test(`a binding with the fate ${fate} is made in the end`, async () => {
    let losses = 1
    const { phone, yufu, events, me } = await loggedIn({
      fate: (made) => (made.url.endsWith('/v1/binding') && losses-- > 0 ? fate : 'ok'),
    })
    assert.equal((await phone.run(yufu.bind(lilei))).person.name, '李雷')
    assert.equal((await me()).data.person.name, '李雷')
    losses = 1
    assert.equal((await phone.run(yufu.unbind())).bound, false)
    assert.equal((await me()).data.bound, false)
    const again = fate === 'lost-request' ? 2 : 1
    assert.deepEqual(
      ['POST', 'DELETE'].map((m) => phone.sent().filter((n) => n === `${m} /v1/binding`).length),
      [again, again],
    )
    assert.deepEqual(events, ['bound 李雷', 'unbound'])
  })
}

test('requests during a binding, on two devices, are answered', async () => {
  const { service, phone, yufu } = await loggedIn()
  const other = newPhone(service, { user: phone.user })
  const theirs = other.yufu()
  await other.run(theirs.session())
  await phone.age(10_000)
  const url = `${service.baseURL}/v1/me`
  const [, ...answers] = await phone.run(
    Promise.all([yufu.bind(lilei), ...Array.from({ length: 6 }, () => yufu.fetch({ url }))]),
  )
  assert.deepEqual(
    answers.map((a) => a.statusCode),
    Array(6).fill(200),
  )
  assert.equal((await other.run(theirs.fetch({ url }))).data.person.name, '李雷')
  assert.equal((await other.run(theirs.session())).person.name, '李雷', 'the other device has the new binding')
  assert.equal(phone.logins + other.logins, 2)
})

test('the storage has neither name nor number of a person, and a cold start fetches them when needed', async () => {
  const { service, phone, yufu } = await loggedIn()
  const session = await phone.run(yufu.bind(lilei))
  assert.deepEqual(await phone.run(yufu.session()), session)
  const personal = () => {
    // The access token comes from the service; its claims depend on the app's policy.
    const { access, refresh, ...rest } = phone.stored()
    return JSON.stringify(rest)
  }
  assert.deepEqual(phone.stored().person, { id: session.person.id })
  for (const value of ['李雷', '1001']) assert(!personal().includes(`"${value}"`), personal())
  phone.restart()
  const again = phone.yufu()
  const told = []
  for (const e of ['bound', 'unbound']) again.on(e, () => told.push(e))
  await phone.run(again.fetch({ url: `${service.baseURL}/v1/me` }))
  assert.deepEqual(phone.sent(), ['GET /v1/me'], 'a request needs no name')
  assert.deepEqual(await phone.run(Promise.all([again.session(), phone.yufu().session()])), [session, session])
  assert.deepEqual(await phone.run(again.session()), session)
  assert.deepEqual(phone.sent(), ['GET /v1/me', 'refresh'])
  assert.deepEqual(told, [], 'there is no event without a change')
  await phone.run(again.unbind())
  assert.deepEqual(told, ['unbound'])
  assert.equal(phone.stored().person, null)
})

test('personal data that an older version stored is removed by the next write', async () => {
  const { phone, yufu } = await loggedIn()
  const session = await phone.run(yufu.bind(lilei))
  phone.store({ person: session.person })
  await phone.age(3600_000)
  await phone.run(yufu.session())
  assert.deepEqual(phone.stored().person, { id: session.person.id })
})
