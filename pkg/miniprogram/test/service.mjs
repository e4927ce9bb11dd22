// The service for tests: the built binary with its simulator of WeChat, on free
// ports, and helpers for the tests.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createPhone } from '../dist/testing.mjs'

export const root = join(dirname(fileURLToPath(import.meta.url)), '..')
export const clientId = 'wxdevelopment0001'
export const sdk = readFileSync(join(root, 'miniprogram_dist', 'index.js'), 'utf8')

/** startService runs `yufu dev` until the tests of the file have ended. */
export async function startService(env = {}) {
  assert(process.env.YUFU_BIN, 'YUFU_BIN is not set; run the tests with: npm test')
  const dir = mkdtempSync(join(tmpdir(), 'yufu-dev-'))
  const child = spawn(join(process.env.YUFU_BIN, 'yufu'), ['dev'], {
    env: {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      YUFU_DATA_DIR: dir,
      YUFU_LOG_FORMAT: 'json',
      YUFU_LISTEN: '127.0.0.1:0',
      YUFU_ADMIN_LISTEN: '127.0.0.1:0',
      YUFU_SIM_LISTEN: '127.0.0.1:0',
      YUFU_EXCHANGE_FAILURE_LIMIT: '0',
      YUFU_EXCHANGE_SUCCESS_LIMIT: '0',
      ...env,
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const service = { log: '', dir }
  const exited = new Promise((resolve) => child.on('exit', resolve))
  after(async () => {
    child.kill('SIGTERM')
    await exited
    rmSync(dir, { recursive: true, force: true })
  })
  await new Promise((resolve, reject) => {
    child.on('exit', () => reject(new Error(`yufu dev ended:\n${service.log}`)))
    child.stderr.on('data', (text) => {
      service.log += text
      for (const line of service.log.split('\n')) {
        const m = /"msg":"listening".*/.test(line) && JSON.parse(line)
        if (m) service[m.listener] = `http://${m.addr}`
      }
      if (service.public && service.admin && service.wechatsim) resolve()
    })
  })
  return Object.assign(service, {
    baseURL: service.public,
    /** Returns a code of wx.login for a user. */
    codes: (user) => async () => (await post(`${service.wechatsim}/sim/codes`, { user })).code,
    /** Makes the next calls to WeChat fail. */
    faults: (faults) => post(`${service.wechatsim}/sim/faults`, faults),
    /** Ends sessions as an admin. */
    revoke: (what) =>
      post(
        `${service.admin}/admin/v1/revocations`,
        { reason: 'test', ...what },
        readFileSync(join(dir, 'admin.key'), 'utf8').trim(),
      ),
    stop: async () => {
      child.kill('SIGKILL')
      await exited
    },
  })
}

export async function post(url, body, key) {
  const answer = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(key && { authorization: `Bearer ${key}` }) },
    body: JSON.stringify(body),
  })
  assert(answer.ok, `${url} answers ${answer.status}: ${answer.ok || (await answer.clone().text())}`)
  return answer.json()
}

/** startServer runs a back end, or a double of the service, until the tests of the file have ended. */
export async function startServer(handler) {
  const server = createServer(async (req, res) => {
    let body = ''
    for await (const chunk of req) body += chunk
    req.body = body
    res.json = (status, doc, header = {}) => {
      res.writeHead(status, { 'content-type': 'application/json', ...header })
      res.end(JSON.stringify(doc))
    }
    await handler(req, res)
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  after(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${server.address().port}`
}

let users = 0

/**
 * newPhone returns a phone with its own user, on which the SDK runs as on real
 * phones. Time is virtual.
 */
export function newPhone(service, options = {}) {
  const user = options.user || `user${process.pid}-${++users}`
  const phone = createPhone({ virtual: true, codes: service.codes?.(user), ...options })
  return Object.assign(phone, {
    user,
    sdk,
    /** Makes a client, of a new copy of the SDK without `copy`. */
    yufu: (more = {}, copy = phone.copy()) => copy.createYufu({ baseURL: service.baseURL, clientId, ...more }),
    copy: () => phone.load(sdk),
    /** The requests so far: `refresh`, `exchange`, `revoke`, or method and path. */
    sent: () => phone.network.made.map(name),
    stored: () => [...phone.storage.raw.values()].map((v) => JSON.parse(v))[0],
    /** Changes the stored session. */
    store: (change) => {
      const [[key, text]] = phone.storage.raw
      phone.storage.raw.set(key, JSON.stringify({ ...JSON.parse(text), ...change }))
    },
    /** Makes the stored access token older. */
    age: (ms = 60000) => phone.advance(ms),
  })
}

export function name({ url, method, body = '' }) {
  const path = url.replace(/^https?:\/\/[^/]+/, '').replace(/\?.*/, '')
  if (path === '/oauth2/token') return body.includes('grant_type=refresh_token') ? 'refresh' : 'exchange'
  return path === '/oauth2/revoke' ? 'revoke' : `${method} ${path}`
}
