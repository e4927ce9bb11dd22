// Logging in and refreshing, one at a time.

import type { Answer, LoginOptions, Person, Session, YufuError } from './api'
import { fail, refused, type Unchecked } from './errors'
import { emit } from './events'
import { forget, load, pause, ready, type Shared, save, within } from './shared'
import { complete, margin, parse, readPerson, type Stored } from './store'
import { bounded, call, form, formHeader, patience } from './transport'

/** The members of a token answer that this package reads. An answer to a change of the binding has them too. */
export interface TokenAnswer extends Session {
  access_token: string
  refresh_token: string
  expires_in: number
}

/** A client: the state that the app's clients share, and its own options. */
export interface Client {
  shared: Shared
  origins: string[]
  device?: string
  login: (options: LoginOptions) => void
}

/** The number of attempts before a renewal fails. */
const maxAttempts = 4

/** Timeout of one request in milliseconds, so that a second one fits into the patience. */
const answerTime = 6000

/** The time between two log-ins in milliseconds: WeChat allows four a second. */
const loginGap = 300

/**
 * How long a request is not repeated when its result will not change soon: for a refused
 * user, or a wrong configuration. In milliseconds.
 */
const refusedFor = 60000
const brokenFor = 5000

/**
 * The longest pause in milliseconds, regardless of Retry-After: a date in it depends on
 * the phone's clock, which may be wrong.
 */
const longestHold = 300000

/** ensure returns a session with a valid access token: the stored one, the one under way, or a new one. */
export function ensure(c: Client): Promise<Stored> {
  const s = c.shared
  if (s.flight) return s.flight
  const stored = ready(s)
  return stored ? Promise.resolve(stored) : renew(c)
}

/** identify is `ensure` for callers that need the person: the storage does not hold the name. */
export const identify = (c: Client): Promise<Stored> =>
  ensure(c).then((stored) => (complete(stored) ? stored : renew(c)))

/** renew refreshes the session, or logs in if there is none. Callers during a renewal share its result. */
export function renew(c: Client): Promise<Stored> {
  const s = c.shared
  if (s.flight) return s.flight
  if (s.hold && within(s.hold.at, s.hold.ms)) return Promise.reject(s.hold.error)
  // The marker is set before anything else runs, with any kind of promise.
  let settle!: { resolve(stored: Stored): void; reject(error: YufuError): void }
  s.flight = new Promise<Stored>((resolve, reject) => (settle = { resolve, reject }))
  const flight = s.flight
  attempt(c).then(
    (stored) => {
      s.flight = undefined
      settle.resolve(stored)
    },
    (error: YufuError) => {
      s.flight = undefined
      settle.reject(error)
      if (s.hold && s.hold.error === error && s.hold.ms === refusedFor)
        emit(s.handlers, 'signedout', { code: error.code })
      else emit(s.handlers, 'error', error)
    },
  )
  return flight
}

async function attempt(c: Client): Promise<Stored> {
  const s = c.shared
  let newCodes = 0
  let ended = ''
  s.deadline = Date.now() + patience
  s.hold = undefined
  for (let n = 1; ; n++) {
    // An ended session does not count, even if the phone cannot delete it.
    const found = load(s)
    const stored = found && found.refresh !== ended ? found : undefined
    let error: YufuError
    try {
      const answer = await (stored ? refresh(s, stored) : exchange(c))
      const next = answer.statusCode === 200 && readTokens(answer.data, s.sentAt)
      if (next) return save(s, next)
      error = refused(answer)
      if (answer.statusCode === 200) error.code = 'bad_answer'
      const oauth = (answer.data || {}).error
      if (stored && oauth === 'invalid_grant') {
        // The session has ended. One silent log-in replaces it, without the user
        // noticing.
        ended = stored.refresh
        forget(s)
        continue
      }
      if (!stored && /^code_(invalid|used)$/.test(error.code) && !newCodes++) continue
      if (oauth === 'access_denied') hold(s, error, refusedFor)
    } catch (e) {
      if (!(e as YufuError).errMsg) throw e
      error = e as YufuError
      // The app is in the foreground again, or it would not get the failure.
      if (error.code === 'interrupted') s.deadline = Date.now() + patience
    }
    const { status, retryAfter } = error
    const passing = status < 300 || status === 429 || (status >= 500 && error.code !== 'platform_misconfigured')
    const wait = retryAfter ? retryAfter * 1000 : 250 * Math.pow(2, n) * (0.75 + Math.random() / 2)
    if (passing && n < maxAttempts && Date.now() + wait < s.deadline) {
      await pause(s, wait, !retryAfter)
      continue
    }
    if (status && !s.hold) hold(s, error, retryAfter ? retryAfter * 1000 : brokenFor)
    throw error
  }
}

function hold(s: Shared, error: YufuError, ms: number): void {
  s.hold = { at: Date.now(), ms: Math.min(ms, longestHold), error }
}

/** timeLeft returns how long the renewal may still wait for one answer. */
const timeLeft = (s: Shared, limit: number) => Math.max(1, Math.min(limit, s.deadline - Date.now()))

function token(s: Shared, fields: Record<string, string>): Promise<Answer> {
  s.sentAt = Date.now()
  return call(
    s.wx,
    timeLeft(s, answerTime),
    'POST',
    `${s.baseURL}/oauth2/token`,
    formHeader,
    form(Object.assign({ client_id: s.clientId }, fields)),
  )
}

const refresh = (s: Shared, stored: Stored) => token(s, { grant_type: 'refresh_token', refresh_token: stored.refresh })

async function exchange(c: Client): Promise<Answer> {
  const s = c.shared
  if (within(s.loginAt, loginGap)) await pause(s, loginGap)
  s.loginAt = Date.now()
  const code = await bounded<string>(timeLeft(s, patience), 'wx.login did not answer', (resolve, reject) => {
    c.login({
      success: (result) =>
        result && result.code ? resolve(result.code) : reject(fail('login_failed', 'wx.login returned no code')),
      fail: (e) => reject(fail('login_failed', (e && e.errMsg) || 'wx.login failed')),
    })
  })
  const fields: Record<string, string> = { grant_type: 'urn:yufu:grant-type:mini-program-code', code }
  if (c.device) fields.device = c.device
  return token(s, fields)
}

/** readTokens reads a token answer. A proxy in between may send any content with a 200. */
function readTokens(d: Unchecked<TokenAnswer> | null, sent: number): Stored | undefined {
  if (!d || !((d.expires_in as number) > 0)) return
  const next = parse({
    refresh: d.refresh_token,
    access: d.access_token,
    at: Date.now(),
    until: expiry(d.expires_in as number, sent),
    uuid: d.uuid,
    bound: d.bound,
    person: readPerson(d.person as Unchecked<Person> | null),
  })
  return next && next.access ? next : undefined
}

/** expiry returns when to refresh a token that was requested at `sent`. */
export const expiry = (seconds: number, sent: number): number => sent + (seconds - margin(seconds)) * 1000

const nothing = () => {}

/** logOut forgets the session and ends it at the service. */
export async function logOut(c: Client): Promise<void> {
  const s = c.shared
  // Operations under way would store a session after this one was forgotten.
  while (s.flight || s.change) await (s.flight || s.change!).then(nothing, nothing)
  const stored = load(s)
  s.logouts++
  s.told = undefined
  forget(s)
  emit(s.handlers, 'signedout', { code: 'logout' })
  if (!stored) return
  for (let n = 1; ; n++) {
    try {
      const answer = await call(
        s.wx,
        answerTime / 2,
        'POST',
        `${s.baseURL}/oauth2/revoke`,
        formHeader,
        form({ client_id: s.clientId, token: stored.refresh }),
      )
      if (answer.statusCode === 200) return
      throw refused(answer)
    } catch (e) {
      const error = e as YufuError
      if (n === 3 || (error.status && error.status < 500)) throw error
      await pause(s, 250 * n, true)
    }
  }
}
