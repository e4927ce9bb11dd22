// Requests with the access token.

import type { Answer, RequestOptions, RequestTask } from './api'
import { fail, failed } from './errors'
import { tell } from './events'
import { origin } from './hosts'
import { type Client, ensure, renew } from './session'
import { load, since } from './shared'
import { fresh } from './store'

/** A token that is younger is not refreshed because a back end refuses it, unless that says why in the service's words. */
const young = 5000

/** How long a back end that refuses a new token is no reason to refresh. */
const distrusted = 60000

const listenerMethods = ['onHeadersReceived', 'offHeadersReceived', 'onChunkReceived', 'offChunkReceived'] as const

/** What of a request is there before `wx.request` is called, and what stays when it is called again. */
export class Task implements RequestTask {
  aborted?: boolean
  onHeadersReceived!: RequestTask['onHeadersReceived']
  offHeadersReceived!: RequestTask['offHeadersReceived']
  onChunkReceived!: RequestTask['onChunkReceived']
  offChunkReceived!: RequestTask['offChunkReceived']
  private real?: any
  private calls: Array<[string, any]> = []
  /** Called when it is aborted; the request's own `fail` does the rest. */
  stop?: () => void

  constructor() {
    listenerMethods.forEach((name) => {
      this[name] = (listener?: any) => {
        this.calls.push([name, listener])
        if (this.real && this.real[name]) this.real[name](listener)
      }
    })
  }

  abort(): void {
    this.aborted = true
    if (this.real && this.real.abort) this.real.abort()
    if (this.stop) this.stop()
  }

  attach(real: any): void {
    this.real = real
    this.calls.forEach(([name, listener]) => real && real[name] && real[name](listener))
  }
}

/** send makes the request, and once more if its token is refused and there is a better one. */
export async function send(c: Client, options: RequestOptions, task: Task): Promise<Answer> {
  const s = c.shared
  const to = origin(options.url)
  if (!to || c.origins.indexOf(to) < 0) throw fail('host_not_listed', 'the URL is not of a host in apiHosts, so the token does not go there')
  const { logouts } = s
  let stored = await ensure(c)
  const refusedToken = stored.access
  const answer = await once(c, options, task, stored.access)
  if (answer.statusCode !== 401) {
    delete s.refusedAt[to]
    return answer
  }
  // A change of the binding makes older tokens invalid, and its answer brings a
  // new one.
  if (s.change) await s.change
  if (s.flight) stored = await s.flight
  if (s.logouts !== logouts) return answer
  const current = load(s)
  const good = current && fresh(current, Date.now())
  if (current && good && current.access !== refusedToken) stored = current
  else {
    const known = /^(token_expired|session_revoked)$/.test((answer.data || {}).code)
    // What is not fresh is refreshed anyway.
    if (current && good && (since(s.refusedAt[to], distrusted) || (!known && since(current.at, young)))) return answer
    stored = await renew(c)
  }
  const second = await once(c, options, task, stored.access)
  if (second.statusCode === 401 && fresh(stored, Date.now())) s.refusedAt[to] = Date.now()
  return second
}

function once(c: Client, options: RequestOptions, task: Task, access: string): Promise<Answer> {
  const header: Record<string, any> = {}
  const given = options.header || {}
  Object.keys(given).forEach((name) => {
    if (name.toLowerCase() !== 'authorization') header[name] = given[name]
  })
  header.Authorization = `Bearer ${access}`
  return new Promise((resolve, reject) => {
    if (task.aborted) return reject(fail('aborted', 'request:fail abort'))
    task.attach(c.shared.wx.request(Object.assign({}, options, { header, success: resolve, fail: (e: any) => reject(failed(e)), complete: undefined })))
  })
}

/** request is send in the manner of `wx.request`. */
export function request(c: Client, options: RequestOptions): RequestTask {
  const task = new Task()
  const end = (handler: any) => (result: any) => {
    tell(handler, result)
    tell(options.complete, result)
  }
  abortable(send(c, options, task), task).then(end(options.success), end(options.fail))
  return task
}

/** abortable has an abort end the wait for a log-in as well, which itself goes on. */
function abortable(sent: Promise<Answer>, task: Task): Promise<Answer> {
  return new Promise((resolve, reject) => {
    task.stop = () => reject(fail('aborted', 'request:fail abort'))
    sent.then(resolve, reject)
  })
}
