// The hosts to which the access token may be sent.

import { fail } from './errors'

/** An origin in the form for comparison: scheme, host in lower case, port. */
export type Origin = string

const defaultPort: Record<string, string> = { http: '80', https: '443' }

/**
 * origin returns the origin of an absolute URL, or '' for any URL that is not plain: a
 * URL that can be read in two ways (user info, backslashes, white space, letters that
 * are not ASCII) is not accepted.
 */
export function origin(url: string): Origin {
  const m = /^(https?):\/\/([a-z0-9.-]+|\[[0-9a-f:.]+\])(?::(\d{1,5}))?(?:[/?#]|$)/i.exec(url)
  if (!m) return ''
  const scheme = m[1].toLowerCase()
  return `${scheme}://${m[2].toLowerCase()}:${Number(m[3] || defaultPort[scheme])}`
}

/**
 * resolve returns the target of a redirect as an absolute URL, or a text that `origin`
 * refuses. Dot segments stay: the platform removes them.
 */
export function resolve(base: string, reference: string): string {
  const [, scheme, host, path] = /^([a-z]+:)(\/\/[^/?#]*)([^?#]*)/i.exec(base)!
  if (/^[a-z][a-z0-9+.-]*:/i.test(reference)) return reference
  if (/^\/\//.test(reference)) return scheme + reference
  const folder = reference[0] === '/' ? '' : /^[?#]/.test(reference) ? path : path.replace(/[^/]*$/, '') || '/'
  return scheme + host + folder + reference
}

/** allowed returns the origins to which tokens may be sent. Throws for invalid settings. */
export function allowed(baseURL: string, apiHosts: string[], unsafePlainHTTP?: boolean): Origin[] {
  const base = origin(baseURL)
  if (!base || !/^https?:\/\/[^/]+\/?$/i.test(baseURL)) throw fail('config', 'baseURL must be https://host')
  const plain = base[4] === ':'
  const origins = [base]
  apiHosts.forEach((host) => {
    const found = origin(`https://${host}`)
    if (typeof host !== 'string' || !found || /[/?#]/.test(host))
      throw fail('config', `apiHosts: ${host} must be host or host:port`)
    origins.push(found)
    // In development, back ends of a service on http are on http, too.
    if (plain) origins.push(origin(`http://${host}`))
  })
  if (plain && !unsafePlainHTTP) {
    const local = /^http:\/\/(127\.0\.0\.1|localhost|\[::1\]):/
    if (!local.test(base)) throw fail('config', 'baseURL must be https; tests may set unsafePlainHTTP')
    return origins.filter((o) => o[4] === 's' || local.test(o))
  }
  return origins
}
