/**
 * The client library of Yufu for mini-programs: it logs in silently, refreshes
 * on demand and never by timer, and adds the access token to requests.
 *
 * It owns the tokens in the phone's storage and their use. It does not own what a user
 * may do, nor when a page asks the user to bind.
 */

import type { BindRequest, RequestOptions, Wx, Yufu, YufuOptions } from './api'
import { bind, unbind } from './bind'
import { fail } from './errors'
import { on } from './events'
import { allowed } from './hosts'
import { request, send, Task } from './request'
import { type Client, identify, logOut } from './session'
import { sessionOf, sharedBy } from './shared'

export type * from './api'

declare const wx: Wx | undefined

/**
 * createYufu returns a client. It makes no request. Clients with the same `wx`, base URL
 * and appid share their session, anywhere in the program.
 */
export function createYufu(options: YufuOptions): Yufu {
  const platform = check(options)
  const origins = allowed(options.baseURL, options.apiHosts || [], options.unsafePlainHTTP)
  const c: Client = {
    shared: sharedBy(platform, options.baseURL.replace(/\/$/, ''), options.clientId),
    origins,
    device: label(options.device),
    login: options.login || ((o) => platform.login(o)),
  }
  return {
    request: (o: RequestOptions) => request(c, o),
    fetch: (o: RequestOptions) => send(c, o, new Task()),
    session: () => identify(c).then(sessionOf),
    bind: (r: BindRequest) => bind(c, r),
    unbind: () => unbind(c),
    logout: () => logOut(c),
    on: (event, handler) => on(c.shared.handlers, event, handler),
  }
}

/** The type of each option. */
const kinds: { [K in keyof Required<YufuOptions>]: string } = {
  baseURL: 'string',
  clientId: 'string',
  device: 'string',
  apiHosts: 'object',
  wx: 'object',
  login: 'function',
  unsafePlainHTTP: 'boolean',
}

/** check throws for options of the wrong type, because most programs are JavaScript. Returns the platform. */
function check(options: YufuOptions): Wx {
  const wrong = (name: string, want: string): never => {
    throw fail('config', `${name} ${want}`)
  }
  if (!options || typeof options !== 'object') wrong('createYufu', 'needs an object of options')
  Object.keys(options).forEach((name) => {
    const value = options[name as keyof YufuOptions]
    const kind = Object.prototype.hasOwnProperty.call(kinds, name)
      ? kinds[name as keyof YufuOptions]
      : wrong(name, 'is not an option')
    // An empty value counts as absent, as in `login: dev && …`.
    if (value && typeof value !== kind) wrong(name, `must be of type ${kind}, not ${typeof value}`)
  })
  if (!/^[A-Za-z0-9]{1,64}$/.test(options.clientId || ''))
    wrong('clientId', `must be an appid: 1 to 64 letters and digits, not ${options.clientId}`)
  if (options.apiHosts && !Array.isArray(options.apiHosts)) wrong('apiHosts', 'must be an array')
  const platform = options.wx || (typeof wx === 'undefined' ? undefined : wx)
  if (!platform) throw fail('config', 'no global wx; pass the option wx')
  if (typeof platform.request !== 'function') wrong('wx', 'must have the method request')
  return platform
}

/**
 * label removes characters that the service refuses: control characters, those that
 * reorder text, and half characters.
 */
function label(device?: string): string {
  return Array.from(String(device || ''))
    .filter(
      (c) =>
        c.length > 1 ||
        !/[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]/.test(c),
    )
    .slice(0, 64)
    .join('')
}
