import type { Answer, WxError, YufuError } from './api'

/** The members of a T before they are checked. */
export type Unchecked<T> = { readonly [K in keyof T]?: unknown }

/** The members of an error answer that this package reads: those of RFC 6749, of RFC 9457 and of Yufu. */
interface Problem {
  error_code: string
  error_description: string
  code: string
  detail: string
  title: string
  request_id: string
  user_message: string
}

/** fail returns an error. Its text contains no token: texts come from here, WeChat and the service. */
export function fail(code: string, text: string, more?: Partial<YufuError>): YufuError {
  const errMsg = `yufu: ${code}: ${text}`
  return Object.assign(
    new Error(errMsg),
    { name: 'YufuError', code, errMsg, status: 0, retryAfter: 0, requestId: '', userMessage: '' },
    more,
  )
}

/** failed returns the error of a request that `wx.request` could not make. */
export function failed(error?: WxError): YufuError {
  const { errno, message, errMsg = message || '' }: WxError = error || {}
  const code =
    errno === 600003 || /interrupted/.test(errMsg)
      ? 'interrupted'
      : /abort/.test(errMsg)
        ? 'aborted'
        : /timeout/.test(errMsg)
          ? 'timeout'
          : 'network'
  return fail(code, errMsg || 'no answer', { errno })
}

/** refused returns the error in an answer of the service (RFC 6749 or RFC 9457), or of a proxy in front of it. */
export function refused({ statusCode: status, data, header }: Answer): YufuError {
  const text = (v: unknown) => (typeof v === 'string' ? v : '')
  const d: Unchecked<Problem> = data || {}
  const code = text(d.error_code) || text(d.code) || 'bad_answer'
  return fail(code, text(d.error_description) || text(d.detail) || text(d.title) || `status ${status}`, {
    status,
    retryAfter: retryAfter(header),
    requestId: text(d.request_id),
    userMessage: text(d.user_message),
  })
}

/** headerOf returns a header, with its name in any case, or ''. */
export function headerOf(header: Record<string, string> = {}, wanted: string): string {
  const name = Object.keys(header).find((name) => name.toLowerCase() === wanted)
  return name ? String(header[name]).trim() : ''
}

/** retryAfter reads the header: seconds, or a date (RFC 9110 §10.2.3). */
function retryAfter(header?: Record<string, string>): number {
  const value = headerOf(header, 'retry-after')
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000
  return seconds > 0 ? Math.ceil(seconds) : 0
}
