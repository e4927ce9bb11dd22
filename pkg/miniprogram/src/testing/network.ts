// Requests as wx.request makes them, over real HTTP.

import type { Clock } from './clock'

/**
 * The fate of a request. `lost-request`: it never reaches the server; `lost-answer`: the
 * server acts, and its answer is lost. Both fail at once. With `silent-…` they fail only
 * by timeout.
 */
export type Fate = 'ok' | 'lost-request' | 'lost-answer' | 'silent-request' | 'silent-answer'

/** A request, in the order in which they were made. */
export interface Made {
  url: string
  method: string
  header: Record<string, string>
  body?: string
  /** The status of the answer, once there is one, even if the answer was lost. */
  status?: number
  fate: Fate
  /** Whether the program got the answer. */
  answered?: boolean
}

/** The parts of the phone that its network uses. */
export interface Site {
  clock: Clock
  /** Calls the program back, now or when it resumes. */
  deliver: (f: () => void) => void
  fate: (made: Made) => Fate
  /** The hosts to which requests may go, as in the settings of a mini-program. By default, they are not checked. */
  domains?: string[]
  random: () => number
  /** Called when real input or output begins (+1) and ends (-1). */
  busy: (n: number) => void
}

const atOnce = 10
const methods = ['OPTIONS', 'GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'TRACE', 'CONNECT']

/** The argument of `wx.request`. */
export interface Options {
  url: string
  data?: unknown
  header?: Record<string, unknown>
  method?: string
  timeout?: number
  dataType?: string
  responseType?: string
  redirect?: string
  success?: (result: Result) => void
  fail?: (error: Failure) => void
  complete?: (result: Result | Failure) => void
}

interface Result {
  data: unknown
  statusCode: number
  header: Record<string, string>
  cookies: string[]
  errMsg: string
}

interface Failure {
  errMsg: string
  errno?: number
}

type Listener = (result: Pick<Result, 'header' | 'statusCode' | 'cookies'>) => void

interface Pending {
  options: Options
  made: Made
  timer?: unknown
  ended: boolean
  aborter: AbortController
  listeners: Listener[]
}

export class Network {
  readonly made: Made[] = []
  /** The maximum number of concurrent requests so far. */
  maxConcurrent = 0
  private active = new Set<Pending>()
  private queue: Pending[] = []

  constructor(private readonly site: Site) {}

  request(options: Options) {
    const method = String(options.method || 'GET').toUpperCase()
    const pending: Pending = {
      options,
      made: { ...encode(options, method), method, fate: 'ok' },
      ended: false,
      aborter: new AbortController(),
      listeners: [],
    }
    if (!methods.includes(method)) this.fail(pending, `request:fail method ${method} is invalid`)
    else if (!this.listed(options.url)) this.fail(pending, 'request:fail url not in domain list', 600002)
    else {
      this.queue.push(pending)
      this.pump()
    }
    return {
      abort: () => this.fail(pending, 'request:fail abort'),
      onHeadersReceived: (f: Listener) => void pending.listeners.push(f),
      offHeadersReceived: (f?: Listener) =>
        void (pending.listeners = f ? pending.listeners.filter((g) => g !== f) : []),
      onChunkReceived: () => {},
      offChunkReceived: () => {},
    }
  }

  /** After some seconds in the background, requests under way fail. */
  interrupt(): void {
    for (const p of [...this.active, ...this.queue]) this.fail(p, 'request:fail interrupted', 600003)
  }

  /** The program is destroyed: there are no callbacks. */
  drop(): void {
    for (const p of [...this.active, ...this.queue]) this.end(p)
  }

  private listed(url: string): boolean {
    return !this.site.domains || this.site.domains.includes(new URL(url).host)
  }

  private pump(): void {
    while (this.active.size < atOnce && this.queue.length) {
      const p = this.queue.shift()!
      this.active.add(p)
      this.maxConcurrent = Math.max(this.maxConcurrent, this.active.size)
      void this.run(p)
    }
  }

  private async run(p: Pending): Promise<void> {
    const { made, options } = p
    this.made.push(made)
    made.fate = this.site.fate(made)
    p.timer = this.site.clock.set(() => this.fail(p, 'request:fail timeout', 5), options.timeout || 60000, true)
    if (made.fate === 'silent-request') return
    if (made.fate === 'lost-request')
      return this.fail(
        p,
        'request:fail errcode:-101 cronet_error_code:-101 error_msg:net::ERR_CONNECTION_RESET',
        600001,
      )
    this.site.busy(1)
    let answer: Response
    let body: ArrayBuffer
    try {
      answer = await this.fetch(p)
      made.status = answer.status
      body = await answer.arrayBuffer()
    } catch (_e) {
      return this.fail(
        p,
        'request:fail errcode:-102 cronet_error_code:-102 error_msg:net::ERR_CONNECTION_REFUSED',
        600001,
      )
    } finally {
      this.site.busy(-1)
    }
    if (made.fate === 'silent-answer') return
    if (made.fate === 'lost-answer')
      return this.fail(
        p,
        'request:fail errcode:-101 cronet_error_code:-101 error_msg:net::ERR_CONNECTION_RESET',
        600001,
      )
    const header: Record<string, string> = {}
    answer.headers.forEach((value, name) => (header[this.anyCase(name)] = value))
    this.answer(p, {
      data: decode(body, options),
      statusCode: answer.status,
      header,
      cookies: [],
      errMsg: 'request:ok',
    })
  }

  /** Follows redirects as WeChat does: with all headers, to any host. Browsers follow them by themselves. */
  private async fetch({ made, options, aborter: { signal } }: Pending): Promise<Response> {
    let { url, method, body } = made
    for (let n = 0; ; n++) {
      const answer = await fetch(url, { method, headers: made.header, body, signal, redirect: 'manual' })
      if (answer.type === 'opaqueredirect') return fetch(url, { method, headers: made.header, body, signal })
      const location = answer.headers.get('location')
      if (options.redirect === 'manual' || !location || ![301, 302, 303, 307, 308].includes(answer.status))
        return answer
      if (n === 20) throw new Error('too many redirects')
      url = new URL(location, url).href
      if (answer.status < 307 && method !== 'HEAD') [method, body] = ['GET', undefined]
    }
  }

  private answer(p: Pending, result: Result): void {
    if (!this.end(p)) return
    this.site.deliver(() => {
      p.made.answered = true
      for (const f of p.listeners) f({ header: result.header, statusCode: result.statusCode, cookies: [] })
      try {
        p.options.success?.(result)
      } finally {
        p.options.complete?.(result)
      }
    })
  }

  private fail(p: Pending, errMsg: string, errno?: number): void {
    if (!this.end(p)) return
    const error = { errMsg, errno }
    this.site.deliver(() => {
      try {
        p.options.fail?.(error)
      } finally {
        p.options.complete?.(error)
      }
    })
  }

  private end(p: Pending): boolean {
    if (p.ended) return false
    p.ended = true
    this.active.delete(p)
    this.queue = this.queue.filter((q) => q !== p)
    this.site.clock.clear(p.timer)
    p.aborter.abort()
    this.pump()
    return true
  }

  /** Header names on phones have any case. */
  private anyCase(name: string): string {
    const styles = [
      (s: string) => s,
      (s: string) => s.toUpperCase(),
      (s: string) => s.replace(/(^|-)[a-z]/g, (c) => c.toUpperCase()),
    ]
    return styles[Math.floor(this.site.random() * styles.length)](name)
  }
}

/**
 * encode puts the data into the query or the body, as wx.request does, depending on the
 * method and the content type.
 */
function encode(
  { url, data, header = {} }: Options,
  method: string,
): { url: string; header: Record<string, string>; body?: string } {
  const headers: Record<string, string> = {}
  for (const name of Object.keys(header)) headers[name.toLowerCase()] = String(header[name])
  headers['content-type'] ??= 'application/json'
  const query = (data: object) => {
    const d = data as Record<string, unknown>
    return Object.keys(d)
      .map(
        (k) =>
          `${encodeURIComponent(k)}=${encodeURIComponent(typeof d[k] === 'object' ? JSON.stringify(d[k]) : String(d[k]))}`,
      )
      .join('&')
  }
  if (method === 'GET' || method === 'HEAD') {
    if (data && typeof data === 'object' && Object.keys(data).length)
      url += (url.includes('?') ? '&' : '?') + query(data)
    return { url, header: headers }
  }
  if (data === undefined || data === null) return { url, header: headers }
  const body =
    typeof data === 'string'
      ? data
      : headers['content-type'].startsWith('application/x-www-form-urlencoded')
        ? query(data)
        : JSON.stringify(data)
  return { url, header: headers, body }
}

function decode(body: ArrayBuffer, { dataType = 'json', responseType }: Options): unknown {
  if (responseType === 'arraybuffer') return body
  const text = new TextDecoder().decode(body)
  if (dataType !== 'json') return text
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}
