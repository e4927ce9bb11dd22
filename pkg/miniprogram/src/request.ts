// Requests with the access token.

import type { Answer, Chunk, Headers, RequestOptions, RequestTask, WxError, YufuError } from './api'
import { fail, failed, headerOf } from './errors'
import { notify } from './events'
import { origin, resolve } from './hosts'
import { type Client, ensure, renew } from './session'
import { load, within } from './shared'
import { fresh } from './store'

/**
 * When a back end refuses a token younger than this, in milliseconds, the token is not
 * refreshed, unless the answer has one of the service's error codes.
 */
const newTokenAge = 5000

/** How long the refusals of a back end that refused a new token cause no refresh, in milliseconds. */
const distrustTime = 60000

/** The maximum number of redirects that a request follows. */
const maxRedirects = 5

const redirects = /^30[12378]$/

const listenerMethods = ['onHeadersReceived', 'offHeadersReceived', 'onChunkReceived', 'offChunkReceived'] as const

type ListenerMethod = (typeof listenerMethods)[number]
// The compiler does not see which listener belongs to which method: it is cast where it is passed on.
type Listener = (result: Headers & Chunk) => void

/** The task of a request: it exists before `wx.request` is called, and stays when it is called again. */
export class Task implements RequestTask {
  aborted?: boolean
  onHeadersReceived!: RequestTask['onHeadersReceived']
  offHeadersReceived!: RequestTask['offHeadersReceived']
  onChunkReceived!: RequestTask['onChunkReceived']
  offChunkReceived!: RequestTask['offChunkReceived']
  private real?: Partial<RequestTask>
  private calls: Array<[ListenerMethod, Listener?]> = []
  /** Called on abort; the request's own `fail` does the rest. */
  stop?: () => void

  constructor() {
    listenerMethods.forEach((name) => {
      this[name] = (listener?: Listener) => {
        this.calls.push([name, listener])
        if (this.real && this.real[name]) this.real[name](listener as never)
      }
    })
  }

  abort(): void {
    this.aborted = true
    if (this.real && this.real.abort) this.real.abort()
    if (this.stop) this.stop()
  }

  attach(real?: Partial<RequestTask>): void {
    this.real = real
    this.calls.forEach(([name, listener]) => real && real[name] && real[name](listener as never))
  }
}

/** send makes the request, and once more if its token is refused and there is a better one. */
export async function send(c: Client, options: RequestOptions, task: Task): Promise<Answer> {
  const s = c.shared
  const to = origin(options.url)
  if (!to || c.origins.indexOf(to) < 0)
    throw fail('host_not_listed', 'the host of the URL is not in apiHosts; the request was not sent')
  const { logouts } = s
  let stored = await ensure(c)
  const refusedToken = stored.access
  const answer = await once(c, options, task, stored.access)
  if (answer.statusCode !== 401) {
    delete s.refusedAt[to]
    return answer
  }
  // A change of the binding makes older tokens invalid, and its answer has a new one.
  if (s.change) await s.change
  if (s.flight) stored = await s.flight
  if (s.logouts !== logouts) return answer
  const current = load(s)
  const good = current && fresh(current, Date.now())
  if (current && good && current.access !== refusedToken) stored = current
  else {
    const known = /^(token_expired|session_revoked)$/.test((answer.data || {}).code)
    // A token that is not fresh is refreshed anyway.
    if (current && good && (within(s.refusedAt[to], distrustTime) || (!known && within(current.at, newTokenAge))))
      return answer
    stored = await renew(c)
  }
  const second = await once(c, options, task, stored.access)
  if (second.statusCode === 401 && fresh(stored, Date.now())) s.refusedAt[to] = Date.now()
  return second
}

/**
 * once sends the request and follows redirects within its origin. The platform must not
 * follow them: it would send the token to any host. A platform that does not support
 * `redirect: 'manual'` still follows them.
 */
async function once(c: Client, options: RequestOptions, task: Task, access: string): Promise<Answer> {
  for (let n = 0; ; n++) {
    const answer = await hop(c, options, task, access)
    const status = answer.statusCode
    const location = headerOf(answer.header, 'location')
    if (options.redirect === 'manual' || !redirects.test(`${status}`) || !location) return answer
    const url = resolve(options.url, location)
    const to = origin(url)
    if (to !== origin(options.url))
      throw fail(
        'redirected',
        `the back end redirects to another host, ${to || 'unreadable'}; the token was not sent there`,
        { status },
      )
    if (n === maxRedirects) throw fail('redirected', 'too many redirects', { status })
    const method = String(options.method || 'GET').toUpperCase()
    // As in browsers (the fetch standard, HTTP-redirect fetch).
    const get = method === 'GET' || (status === 303 ? method !== 'HEAD' : status < 303 && method === 'POST')
    // A query from `data` is in the URL already, and the redirect decides about it.
    options = Object.assign({}, options, {
      url,
      method: get ? 'GET' : method,
      data: get || method === 'HEAD' ? undefined : options.data,
    })
  }
}

function hop(c: Client, options: RequestOptions, task: Task, access: string): Promise<Answer> {
  const header: Record<string, unknown> = {}
  const given = options.header || {}
  Object.keys(given).forEach((name) => {
    if (name.toLowerCase() !== 'authorization') header[name] = given[name]
  })
  header.Authorization = `Bearer ${access}`
  return new Promise((resolve, reject) => {
    if (task.aborted) return reject(fail('aborted', 'request:fail abort'))
    // WeChat documents that a redirect's headers arrive, but not that the request
    // succeeds.
    let redirect: Answer | undefined
    const failing = (e: WxError) => (redirect ? resolve(redirect) : reject(failed(e)))
    const real = c.shared.wx.request(
      Object.assign({}, options, { header, redirect: 'manual', success: resolve, fail: failing, complete: undefined }),
    )
    if (real && real.onHeadersReceived)
      real.onHeadersReceived((received) => {
        if (redirects.test(String(received.statusCode))) redirect = Object.assign({ data: '' }, received)
      })
    task.attach(real)
  })
}

/** request is `send` with the callbacks of `wx.request`. */
export function request(c: Client, options: RequestOptions): RequestTask {
  const task = new Task()
  const end =
    <R extends Answer | YufuError>(handler?: (result: R) => void) =>
    (result: R) => {
      notify(handler, result)
      notify(options.complete, result)
    }
  abortable(send(c, options, task), task).then(end(options.success), end(options.fail))
  return task
}

/** abortable makes an abort also end the wait for a log-in. The log-in itself continues. */
function abortable(sent: Promise<Answer>, task: Task): Promise<Answer> {
  return new Promise((resolve, reject) => {
    task.stop = () => reject(fail('aborted', 'request:fail abort'))
    sent.then(resolve, reject)
  })
}
