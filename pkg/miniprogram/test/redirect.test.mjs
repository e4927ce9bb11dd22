// Redirects: the token is sent only to the host of the request.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newPhone, startServer, startService } from './service.mjs'

const service = await startService()

// The redirects of a back end: targets and status by path.
async function redirecting(to) {
  const seen = []
  const url = await startServer((req, res) => {
    seen.push({ method: req.method, url: req.url, body: req.body, token: req.headers.authorization })
    const next = to[req.url]
    if (!next) return res.json(200, { url: req.url })
    res.json(next[0], {}, { Location: next[1] })
  })
  return { url, host: url.slice(7), seen }
}

test('a redirect to another host fails without a request to it, whatever the options', async () => {
  const stranger = await redirecting({})
  for (const redirect of [undefined, 'follow', 'error', 7]) {
    for (const status of [301, 302, 303, 307, 308]) {
      const back = await redirecting({ '/a': [status, `${stranger.url}/stolen`] })
      const phone = newPhone(service)
      // Even a listed host: the token is only for the host of the request.
      const yufu = phone.yufu({ apiHosts: [back.host, stranger.host] })
      await assert.rejects(phone.run(yufu.fetch({ url: `${back.url}/a`, redirect })), {
        code: 'redirected',
        status,
        errMsg: new RegExp(stranger.url.replaceAll('.', '\\.')),
      })
    }
  }
  assert.deepEqual(stranger.seen, [])
})

test('an ambiguous redirect target fails', async () => {
  for (const location of [
    '//evil.example.com/x',
    '//evil.example.com',
    'https://evil.example.com/',
    'http://evil.example.com@HOST/',
    'http://HOST@evil.example.com/',
    'https://HOST/',
    'http:/x',
    'http:x',
    'javascript:1',
    'http://HOST\\@evil.example.com/',
    '///evil.example.com/x',
    'http://HOST.evil.example.com/',
  ]) {
    const to = {}
    const back = await redirecting(to)
    to['/a'] = [302, location.replace('HOST', back.host)]
    const phone = newPhone(service)
    const yufu = phone.yufu({ apiHosts: [back.host] })
    await assert.rejects(phone.run(yufu.fetch({ url: `${back.url}/a` })), { code: 'redirected' }, location)
    assert.equal(back.seen.length, 1, location)
  }
})

test('a redirect within the back end is followed with the token, as in browsers', async () => {
  const to = {
    '/old': [301, '/new'],
    '/a/b': [302, 'c'],
    '/q?x=1': [307, '?y=2'],
    '/p': [307, '/new'],
    '/s': [303, '/new'],
    '/up': [308, '../new#there'],
    '/back': [302, '/\\evil.example.com'],
  }
  const back = await redirecting(to)
  to['/full'] = [302, `HTTP://${back.host.toUpperCase()}/new`]
  const phone = newPhone(service)
  const yufu = phone.yufu({ apiHosts: [back.host] })
  for (const [path, options, want] of [
    ['/old', {}, 'GET /new '],
    ['/a/b', {}, 'GET /a/c '],
    ['/q', { data: { x: 1 } }, 'GET /q?y=2 '],
    ['/full', {}, 'GET /new '],
    ['/up', {}, 'GET /new '],
    ['/back', {}, 'GET //evil.example.com '],
    ['/p', { method: 'POST', data: { n: 1 } }, 'POST /new {"n":1}'],
    ['/s', { method: 'PUT', data: { n: 1 } }, 'GET /new '],
    ['/a/b', { method: 'POST', data: { n: 1 } }, 'GET /a/c '],
    ['/a/b', { method: 'DELETE' }, 'DELETE /a/c '],
    ['/old', { method: 'head' }, 'HEAD /new '],
  ]) {
    assert.equal((await phone.run(yufu.fetch({ url: back.url + path, ...options }))).statusCode, 200)
    const { method, url, body, token } = back.seen.at(-1)
    assert.equal(`${method} ${url} ${body}`, want)
    assert.equal(token, `Bearer ${phone.stored().access}`)
  }
})

test('a redirect loop ends with an error', async () => {
  const back = await redirecting({ '/a': [302, '/a'] })
  const phone = newPhone(service)
  await assert.rejects(phone.run(phone.yufu({ apiHosts: [back.host] }).fetch({ url: `${back.url}/a` })), {
    code: 'redirected',
    errMsg: /too many/,
  })
  assert.equal(back.seen.length, 6)
})

test('with redirect: manual the program gets the redirect itself', async () => {
  const back = await redirecting({ '/a': [302, 'https://example.com/'] })
  const phone = newPhone(service)
  const { statusCode, header } = await phone.run(
    phone.yufu({ apiHosts: [back.host] }).fetch({ url: `${back.url}/a`, redirect: 'manual' }),
  )
  assert.equal(statusCode, 302)
  assert.equal(Object.entries(header).find(([name]) => name.toLowerCase() === 'location')[1], 'https://example.com/')
})

test('a redirect is followed when the platform reports only its headers and then fails', async () => {
  const stranger = await redirecting({})
  const back = await redirecting({ '/a': [302, '/b'], '/c': [302, stranger.url] })
  const phone = newPhone(service)
  const request = (o) =>
    phone.wx.request({
      ...o,
      success: (r) => (r.statusCode === 302 ? o.fail({ errMsg: 'request:fail redirect' }) : o.success(r)),
    })
  const yufu = phone.yufu({ apiHosts: [back.host], wx: { ...phone.wx, request } })
  assert.equal((await phone.run(yufu.fetch({ url: `${back.url}/a` }))).data.url, '/b')
  await assert.rejects(phone.run(yufu.fetch({ url: `${back.url}/c` })), { code: 'redirected' })
  assert.deepEqual(stranger.seen, [])
})

test('redirects in the service’s own answers are not followed', async () => {
  const stranger = await redirecting({})
  const url = await startServer((_req, res) => res.json(307, {}, { Location: `${stranger.url}/stolen` }))
  const phone = newPhone(service)
  await assert.rejects(phone.run(phone.yufu({ baseURL: url }).session()), { code: 'bad_answer', status: 307 })
  assert.deepEqual(stranger.seen, [])
})
