// Logging in and refreshing, one at a time.

import type { Answer, LoginOptions, Person, Session, YufuError } from './api'
import { fail, refused, type Unchecked } from './errors'
import { emit } from './events'
import { forget, load, pause, ready, type Shared, save, since } from './shared'
import { complete, margin, parse, readPerson, type Stored } from './store'
import { bounded, call, form, formHeader, patience } from './transport'

/** The members of a token answer that this package reads. An answer to a change of the binding has them too. */
export interface TokenAnswer extends Session {
  access_token: string
  refresh_token: string
  expires_in: number
}

/** A client: what its clients share, and what is its own. */
export interface Client {
  shared: Shared
  origins: string[]
  device?: string
  login: (options: LoginOptions) => void
}

/** How often a renewal is tried before its error is told. */
const tries = 4

/** Time-out of one request, so that a second one fits into the patience. */
const answerTime = 6000

/** WeChat allows four log-ins a second. */
const loginGap = 300

/** How long what will not change soon is not asked again: a refused user, a wrong configuration. */
const refusedFor = 60000
const brokenFor = 5000

/** The longest pause that is kept, whatever Retry-After says: a date in it goes by the phone's clock, which may be wrong. */
const longestHold = 300000

/** ensure returns a session whose access token is good, waits for one, or makes one. */
export function ensure(c: Client): Promise<Stored> {
  const s = c.shared
  if (s.flight) return s.flight
  const stored = ready(s)
  return stored ? Promise.resolve(stored) : renew(c)
}

/** identify is ensure for who wants to know the person: the storage does not hold its name. */
export const identify = (c: Client): Promise<Stored> =>
  ensure(c).then((stored) => (complete(stored) ? stored : renew(c)))

/** renew refreshes the session, or logs in when there is none. Whoever comes while it is under way gets the same. */
export function renew(c: Client): Promise<Stored> {
  const s = c.shared
  if (s.flight) return s.flight
  if (s.hold && since(s.hold.at, s.hold.ms)) return Promise.reject(s.hold.error)
  // The marker is there before anything else happens, whatever promises are.
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
    // A session that has ended is not there, even if the phone does not forget it.
    const found = load(s)
    const stored = found && found.refresh !== ended ? found : undefined
    let error: YufuError
    try {
      const answer = await (stored ? refresh(s, stored) : exchange(c))
      const next = answer.statusCode === 200 && accept(answer.data, s.sentAt)
      if (next) return save(s, next)
      error = refused(answer)
      if (answer.statusCode === 200) error.code = 'bad_answer'
      const oauth = (answer.data || {}).error
      if (stored && oauth === 'invalid_grant') {
        // The session has ended. One silent log-in, and the user notices nothing.
        ended = stored.refresh
        forget(s)
        continue
      }
      if (!stored && /^code_(invalid|used)$/.test(error.code) && !newCodes++) continue
      if (oauth === 'access_denied') hold(s, error, refusedFor)
    } catch (e) {
      if (!(e as YufuError).errMsg) throw e
      error = e as YufuError
      // The app is awake again, or the failure would not be told.
      if (error.code === 'interrupted') s.deadline = Date.now() + patience
    }
    const { status, retryAfter } = error
    const passing = status < 300 || status === 429 || (status >= 500 && error.code !== 'platform_misconfigured')
    const wait = retryAfter ? retryAfter * 1000 : 250 * Math.pow(2, n) * (0.75 + Math.random() / 2)
    if (passing && n < tries && Date.now() + wait < s.deadline) {
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

/** left is how long the renewal under way may still wait for one answer. */
const left = (s: Shared, most: number) => Math.max(1, Math.min(most, s.deadline - Date.now()))

function token(s: Shared, fields: Record<string, string>): Promise<Answer> {
  s.sentAt = Date.now()
  return call(
    s.wx,
    left(s, answerTime),
    'POST',
    `${s.baseURL}/oauth2/token`,
    formHeader,
    form(Object.assign({ client_id: s.clientId }, fields)),
  )
}

const refresh = (s: Shared, stored: Stored) => token(s, { grant_type: 'refresh_token', refresh_token: stored.refresh })

async function exchange(c: Client): Promise<Answer> {
  const s = c.shared
  if (since(s.loginAt, loginGap)) await pause(s, loginGap)
  s.loginAt = Date.now()
  const code = await bounded<string>(left(s, patience), 'wx.login did not answer', (resolve, reject) => {
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

/** accept reads a token answer; whatever stands between may answer anything with a 200. */
function accept(d: Unchecked<TokenAnswer> | null, sent: number): Stored | undefined {
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

/** expiry is when to refresh a token that was asked for at `sent`. */
export const expiry = (seconds: number, sent: number): number => sent + (seconds - margin(seconds)) * 1000

const nothing = () => {}

/** logOut forgets the session and has the service end it. */
export async function logOut(c: Client): Promise<void> {
  const s = c.shared
  // What is under way would store a session after this one was forgotten.
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
