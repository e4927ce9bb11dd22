// uni-app: its `uni` is not a plain object but a Proxy over an empty object, which
// matches each property name with regular expressions, wraps functions, and returns a
// function for methods that the platform does not have.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newPhone, startService } from './service.mjs'

const service = await startService()

/** uniOver wraps a platform's object in the way of uni-app's runtime. */
function uniOver(platform, log = []) {
  const sync = /^\$|canIUse|^create|Sync$|Manager$/
  const callback = /^on|^off/
  const tasks = ['request', 'downloadFile', 'uploadFile', 'connectSocket']
  const wrap = (name, method) => {
    if (!method) return () => void log.push(`${name} is not supported`)
    if (!/^create|Manager$/.test(name) && !tasks.includes(name)) return method
    return (options) => {
      const copy = {}
      for (const key in options)
        copy[key] = typeof options[key] === 'function' ? (result) => options[key](copied(result)) : options[key]
      return Object.assign(platform[name](copy), { __v_skip: true })
    }
  }
  const copied = (result) => (result && Object.getPrototypeOf(result) === Object.prototype ? { ...result } : result)
  const promisify = (name, api) => {
    if (sync.test(name) || callback.test(name) || typeof api !== 'function') return api
    return (options = {}, ...rest) => {
      if (
        typeof options.success === 'function' ||
        typeof options.fail === 'function' ||
        typeof options.complete === 'function'
      )
        return api(options, ...rest)
      return new Promise((success, fail) => api({ ...options, success, fail }, ...rest))
    }
  }
  return new Proxy(
    {},
    { get: (target, key) => (Object.hasOwn(target, key) ? target[key] : promisify(key, wrap(key, platform[key]))) },
  )
}

test('the double of uni throws for a symbol, like the real one', () => {
  assert.throws(() => uniOver({})[Symbol.for('x')], TypeError)
})

test('createYufu accepts uni-app’s uni, and its clients share their session', async () => {
  const phone = newPhone(service)
  const log = []
  const wx = uniOver(phone.wx, log)
  const [a, b] = [phone.yufu({ wx }), phone.yufu({ wx })]
  const [one, two] = await phone.run(Promise.all([a.session(), b.session()]))
  assert.deepEqual(one, two)
  assert.equal(phone.logins, 1)
  assert.equal((await phone.run(a.fetch({ url: `${service.baseURL}/v1/me` }))).data.uuid, one.uuid)
  await phone.run(b.logout())
  assert.deepEqual(phone.sent(), ['exchange', 'GET /v1/me', 'revoke'])
  assert.deepEqual(log, [])
})

test('uni works on a platform without onAppShow', async () => {
  const phone = newPhone(service)
  const { onAppShow, offAppShow, ...platform } = phone.wx
  const yufu = phone.yufu({ wx: uniOver(platform) })
  assert.match((await phone.run(yufu.session())).uuid, /-/)
})

test('abort ends a request through uni', async () => {
  const phone = newPhone(service)
  const yufu = phone.yufu({ wx: uniOver(phone.wx) })
  await phone.run(yufu.session())
  let failed
  const failure = new Promise((resolve) => (failed = resolve))
  const task = yufu.request({ url: `${service.baseURL}/v1/me`, success: assert.fail, fail: failed })
  task.abort()
  assert.equal((await failure).code, 'aborted')
})
