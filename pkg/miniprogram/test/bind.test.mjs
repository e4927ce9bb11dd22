// Binding and unbinding with lost answers, against a double of the service that
// counts the changes.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { name, newPhone, startServer } from './service.mjs'

const persons = {
  1001: { id: 'p1', external_id: '1001', name: '李雷' },
  1002: { id: 'p2', external_id: '1002', name: '韩梅梅' },
}

/** startBinding starts a double of the service with one user. */
async function startBinding(instead = () => false) {
  const state = { person: null, ver: 1, binds: 0, unbinds: 0, generation: 0 }
  const who = () => ({ bound: state.person !== null, person: state.person })
  const access = () => ({ access_token: `access.${state.ver}.${state.generation}`, expires_in: 600 })
  const problem = (res, status, code, more, header) =>
    res.json(status, { type: `urn:yufu:problem:${code}`, title: code, status, code, request_id: 'R1', ...more }, header)
  state.baseURL = await startServer((req, res) => {
    if (instead(req, res, state, problem)) return
    if (req.url === '/oauth2/token') {
      state.generation++
      return res.json(200, {
        ...access(),
        token_type: 'Bearer',
        refresh_token: `yfr_${state.generation}`,
        uuid: 'u',
        ...who(),
      })
    }
    const [, ver] = (req.headers.authorization ?? '').split('.')
    if (Number(ver) !== state.ver) return problem(res, 401, 'session_revoked')
    if (req.url === '/orders') return res.json(200, who())
    let person = null
    if (req.method === 'DELETE') state.unbinds++
    else {
      state.binds++
      const { method, ...more } = JSON.parse(req.body)
      const number = method === 'ticket' ? more.ticket : more.fields.employee_no
      person = persons[number]
      if (!person) return problem(res, 403, 'binding_refused')
    }
    // There is no token after a call that changed nothing, nor after a change during which the token expired.
    if (person === state.person) return res.json(200, who())
    state.ver++
    state.person = person
    res.json(200, { ...who(), ...(state.expired ? {} : access()) })
  })
  state.codes = () => async () => 'code'
  return state
}

const facts = (no) => ({ method: 'facts', fields: { employee_no: no, name: 'x' } })

/** loggedIn returns a phone with a session, and the events since then. */
async function loggedIn(service, options) {
  const phone = newPhone(service, options)
  const yufu = phone.yufu()
  await phone.run(yufu.session())
  const events = []
  for (const e of ['bound', 'unbound', 'signedout', 'error'])
    yufu.on(e, (d) => events.push(`${e} ${d.person?.name ?? d.code ?? ''}`.trim()))
  return { phone, yufu, events }
}

test('binding keeps the session: another access token, the same refresh token', async () => {
  const service = await startBinding()
  const { phone, yufu, events } = await loggedIn(service)
  const before = phone.stored()
  const session = await phone.run(yufu.bind(facts('1001')))
  assert.deepEqual(session, { uuid: 'u', bound: true, person: persons[1001] })
  assert.deepEqual(events, ['bound 李雷'])
  assert.equal(phone.stored().refresh, before.refresh)
  assert.notEqual(phone.stored().access, before.access)
  assert.deepEqual(await phone.run(yufu.session()), session)
  assert.equal((await phone.run(yufu.fetch({ url: `${service.baseURL}/orders` }))).statusCode, 200)
  assert.deepEqual(phone.sent(), ['exchange', 'POST /v1/binding', 'GET /orders'])
  assert.deepEqual(await phone.run(yufu.unbind()), { uuid: 'u', bound: false, person: null })
  assert.deepEqual(events, ['bound 李雷', 'unbound'])
  assert.equal(phone.logins, 1)
})

test('binding logs in first if needed', async () => {
  const service = await startBinding()
  const phone = newPhone(service)
  assert.equal((await phone.run(phone.yufu().bind({ method: 'ticket', ticket: '1002' }))).person.name, '韩梅梅')
})

for (const fate of ['lost-answer', 'silent-answer']) {
  test(`a binding with a lost answer (${fate}) is detected by a refresh and not repeated`, async () => {
    const service = await startBinding()
    const { phone, yufu, events } = await loggedIn(service, {
      fate: (made) => (made.url.endsWith('/v1/binding') ? fate : 'ok'),
    })
    assert.equal((await phone.run(yufu.bind(facts('1001')))).person.name, '李雷')
    assert.equal((await phone.run(yufu.unbind())).bound, false)
    assert.deepEqual(phone.sent(), ['exchange', 'POST /v1/binding', 'refresh', 'DELETE /v1/binding', 'refresh'])
    assert.deepEqual([service.binds, service.unbinds], [1, 1])
    assert.deepEqual(events, ['bound 李雷', 'unbound'])
  })
}

test('a binding that never reached the service is repeated after a refresh shows it', async () => {
  let losses = 1
  const service = await startBinding()
  const { phone, yufu } = await loggedIn(service, {
    fate: (made) => (made.url.endsWith('/v1/binding') && losses-- > 0 ? 'lost-request' : 'ok'),
  })
  assert.equal((await phone.run(yufu.bind(facts('1001')))).bound, true)
  assert.deepEqual(phone.sent(), ['exchange', 'POST /v1/binding', 'refresh', 'POST /v1/binding'])
  losses = 2
  const error = await phone.run(yufu.unbind().catch((e) => e))
  assert.equal(error.code, 'network')
  assert.equal(service.unbinds, 0)
  assert.deepEqual(phone.sent().slice(4), ['DELETE /v1/binding', 'refresh', 'DELETE /v1/binding', 'refresh'])
})

test('a binding to another person with a lost answer is not confused with the old binding', async () => {
  let lose = false
  const service = await startBinding()
  const { phone, yufu, events } = await loggedIn(service, {
    fate: (made) => (lose && made.url.endsWith('/v1/binding') ? 'lost-answer' : 'ok'),
  })
  await phone.run(yufu.bind(facts('1001')))
  lose = true
  assert.equal((await phone.run(yufu.bind(facts('1002')))).person.name, '韩梅梅')
  assert.equal(service.binds, 2)
  assert.deepEqual(events, ['bound 李雷', 'bound 韩梅梅'])
})

test('a binding after a 5xx is checked by a refresh too', async () => {
  const service = await startBinding((req, res, state, problem) => {
    if (req.method !== 'POST' || req.url !== '/v1/binding') return false
    state.person = persons[1001]
    problem(res, 503, 'storage_unavailable', {}, { 'Retry-After': '2' })
    return true
  })
  const { phone, yufu } = await loggedIn(service)
  assert.equal((await phone.run(yufu.bind(facts('1001')))).bound, true)
  assert.deepEqual(phone.sent(), ['exchange', 'POST /v1/binding', 'refresh'])
})

test('a 5xx that says that nothing was changed is returned to the caller', async () => {
  const service = await startBinding(
    (req, res, _state, problem) =>
      req.url === '/v1/binding' && (problem(res, 503, 'platform_unavailable', {}, { 'Retry-After': '2' }), true),
  )
  const { phone, yufu } = await loggedIn(service)
  await assert.rejects(phone.run(yufu.bind({ method: 'phone', code: 'c' })), {
    code: 'platform_unavailable',
    retryAfter: 2,
  })
  assert.deepEqual(phone.sent(), ['exchange', 'POST /v1/binding'])
})

test('a refusal is returned with the message of the business and the time to wait', async () => {
  const service = await startBinding((req, res, _state, problem) => {
    if (req.url !== '/v1/binding') return false
    problem(res, 429, 'rate_limited', { detail: 'too many', user_message: '请联系人事' }, { 'Retry-After': '900' })
    return true
  })
  const { phone, yufu, events } = await loggedIn(service)
  const before = phone.stored()
  const error = await phone.run(yufu.bind(facts('9')).catch((e) => e))
  assert.deepEqual(
    { ...error },
    {
      name: 'YufuError',
      code: 'rate_limited',
      errMsg: 'yufu: rate_limited: too many',
      status: 429,
      retryAfter: 900,
      requestId: 'R1',
      userMessage: '请联系人事',
    },
  )
  assert.deepEqual(phone.sent(), ['exchange', 'POST /v1/binding'])
  assert.deepEqual(phone.stored(), before)
  assert.deepEqual(events, [])
})

test('after a call that changes nothing the current token is kept', async () => {
  const service = await startBinding()
  const { phone, yufu, events } = await loggedIn(service)
  const before = phone.stored()
  assert.deepEqual(await phone.run(yufu.unbind()), { uuid: 'u', bound: false, person: null })
  assert.deepEqual(phone.stored(), before)
  const bound = await phone.run(yufu.bind(facts('1001')))
  const token = phone.stored()
  assert.deepEqual(await phone.run(yufu.bind(facts('1001'))), bound)
  assert.deepEqual(phone.stored(), token)
  assert.equal((await phone.run(yufu.fetch({ url: `${service.baseURL}/orders` }))).statusCode, 200)
  assert.deepEqual(phone.sent(), [
    'exchange',
    'DELETE /v1/binding',
    'POST /v1/binding',
    'POST /v1/binding',
    'GET /orders',
  ])
  assert.deepEqual(events, ['bound 李雷'])
})

test('a change without a token counts, and the next request refreshes', async () => {
  const service = await startBinding()
  const { phone, yufu, events } = await loggedIn(service)
  service.expired = true
  const { refresh } = phone.stored()
  assert.equal((await phone.run(yufu.bind(facts('1001')))).person.name, '李雷')
  assert.equal(phone.stored().refresh, refresh)
  assert.equal((await phone.run(yufu.bind(facts('1002')))).person.name, '韩梅梅')
  assert.equal((await phone.run(yufu.unbind())).bound, false)
  assert.equal((await phone.run(yufu.fetch({ url: `${service.baseURL}/orders` }))).data.bound, false)
  assert.deepEqual(phone.sent(), [
    'exchange',
    'POST /v1/binding',
    'refresh',
    'POST /v1/binding',
    'refresh',
    'DELETE /v1/binding',
    'refresh',
    'GET /orders',
  ])
  assert.deepEqual(events, ['bound 李雷', 'bound 韩梅梅', 'unbound'])
  assert.equal(phone.logins, 1)
})

test('a token that is refused is refreshed once', async () => {
  const service = await startBinding()
  const { phone, yufu } = await loggedIn(service)
  service.ver++
  assert.equal((await phone.run(yufu.bind(facts('1001')))).bound, true)
  assert.deepEqual(phone.sent(), ['exchange', 'POST /v1/binding', 'refresh', 'POST /v1/binding'])
  const other = await startBinding(
    (req, res, _state, problem) => req.url === '/v1/binding' && (problem(res, 401, 'token_invalid'), true),
  )
  const refused = await loggedIn(other)
  await assert.rejects(refused.phone.run(refused.yufu.bind(facts('1001'))), { code: 'token_invalid', status: 401 })
  assert.deepEqual(refused.phone.sent(), ['exchange', 'POST /v1/binding', 'refresh', 'POST /v1/binding'])
})

test('a request whose token a concurrent binding revoked is repeated with the new one, without a refresh', async () => {
  const service = await startBinding()
  const { phone, yufu } = await loggedIn(service)
  await phone.age(10_000)
  const [, answer] = await phone.run(
    Promise.all([yufu.bind(facts('1001')), yufu.fetch({ url: `${service.baseURL}/orders` })]),
  )
  assert.equal(answer.statusCode, 200)
  assert(!phone.sent().includes('refresh'))
})

test('two concurrent bindings run one after the other', async () => {
  const service = await startBinding()
  const { phone, yufu, events } = await loggedIn(service)
  await phone.run(Promise.all([yufu.bind(facts('1001')), phone.yufu().bind(facts('1002'))]))
  assert.deepEqual(events, ['bound 李雷', 'bound 韩梅梅'])
  assert.equal(phone.stored().person.id, 'p2')
  assert.deepEqual(phone.network.made.map(name), ['exchange', 'POST /v1/binding', 'POST /v1/binding'])
})

test('a change of the binding by an admin is detected at the next refresh', async () => {
  const service = await startBinding()
  const { phone, yufu, events } = await loggedIn(service)
  service.person = persons[1001]
  service.ver++
  await phone.age(10_000)
  assert.deepEqual((await phone.run(yufu.fetch({ url: `${service.baseURL}/orders` }))).data.person, persons[1001])
  service.person = null
  service.ver++
  await phone.age(3600_000)
  assert.equal((await phone.run(yufu.session())).bound, false)
  assert.deepEqual(events, ['bound 李雷', 'unbound'])
})

test('a binding that needs a refresh joins the refresh under way', async () => {
  const service = await startBinding()
  let slow = 1
  const { phone, yufu } = await loggedIn(service, {
    fate: (made) =>
      made.url.endsWith('/v1/binding')
        ? 'silent-answer'
        : made.body?.includes('refresh_token=') && slow-- > 0
          ? 'silent-request'
          : 'ok',
  })
  await phone.age((600 - 30 - 3) * 1000)
  const bound = yufu.bind(facts('1001'))
  await phone.advance(5000)
  const asked = yufu.session()
  assert.equal((await phone.run(bound)).bound, true)
  assert.equal((await phone.run(asked)).bound, true)
  assert.deepEqual(phone.sent(), ['exchange', 'POST /v1/binding', 'refresh', 'refresh'])
})

test('a request that is refused during a binding waits for its token, even if its own is new', async () => {
  let refused
  const wasRefused = new Promise((resolve) => (refused = resolve))
  const service = await startBinding((req, res, state) => {
    if (req.url === '/plain') {
      const good = req.headers.authorization === `Bearer access.${state.ver}.${state.generation}`
      res.json(good ? 200 : 401, {})
      if (!good) refused()
      return true
    }
    if (req.url !== '/v1/binding') return false
    state.ver++
    state.person = persons[1001]
    wasRefused.then(() =>
      res.json(200, {
        bound: true,
        person: state.person,
        access_token: `access.${state.ver}.${state.generation}`,
        expires_in: 600,
      }),
    )
    return true
  })
  const { phone, yufu } = await loggedIn(service)
  const bound = yufu.bind(facts('1001'))
  // Wait until the service has the request.
  while (service.ver === 1) await new Promise((resolve) => setImmediate(resolve))
  const [answer] = await phone.run(Promise.all([yufu.fetch({ url: `${service.baseURL}/plain` }), bound]))
  assert.equal(answer.statusCode, 200)
  assert.deepEqual(phone.sent(), ['exchange', 'POST /v1/binding', 'GET /plain', 'GET /plain'])
})
