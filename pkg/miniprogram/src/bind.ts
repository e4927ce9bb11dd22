// Binding the user to a person, and unbinding.

import type { Answer, BindRequest, Person, Session, YufuError } from './api'
import { refused, type Unchecked } from './errors'
import { type Client, ensure, expiry, renew, type TokenAnswer } from './session'
import { load, save, sessionOf } from './shared'
import { readPerson, type Stored } from './store'
import { call, patience } from './transport'

export const bind = (c: Client, request: BindRequest): Promise<Session> => change(c, 'POST', request)
export const unbind = (c: Client): Promise<Session> => change(c, 'DELETE')

/** change changes the binding. Concurrent changes run one after the other. */
function change(c: Client, method: string, body?: BindRequest): Promise<Session> {
  const s = c.shared
  const before = s.change || Promise.resolve()
  const changed = before.then(() => attempt(c, method, body)).then(sessionOf)
  const marker: Promise<unknown> = changed.then(
    () => {},
    () => {},
  )
  const end = marker.then(() => {
    if (s.change === end) s.change = undefined
  })
  s.change = end
  return changed
}

async function attempt(c: Client, method: string, body?: BindRequest): Promise<Stored> {
  const before = await ensure(c)
  let stored = before
  let renewed = false
  for (let n = 1; ; ) {
    const sent = Date.now()
    const { answer, error } = await outcome(send(c, method, stored.access, body))
    if (answer && answer.statusCode === 200) {
      const kept = storeAnswer(c, answer.data || {}, sent, stored)
      if (kept) return kept
    } else if (error.status === 401 && !renewed) {
      renewed = true
      stored = await renew(c)
      continue
    } else if (error.status && !/^(bad_answer|internal|storage_unavailable)$/.test(error.code)) throw error
    // The change may or may not have been made. A refresh shows it: its answer says
    // whether the user is bound now. (For other errors the service knows that the change
    // was not made.)
    stored = await renew(c)
    if (changeApplied(method, before, stored)) return stored
    if (n++ === 2) throw error
  }
}

/** outcome returns the answer of a request, if any, and an error, which counts only if the status is not good. */
function outcome(sent: Promise<Answer>): Promise<{ answer?: Answer; error: YufuError }> {
  return sent.then(
    (answer) => ({ answer, error: refused(answer) }),
    (error) => ({ error }),
  )
}

/** personOf returns the id of the person to whom the user is bound. */
const personOf = (x: { bound: boolean; person: Person | null }) => (x.bound && x.person ? x.person.id : '')

function changeApplied(method: string, before: Stored, now: Stored): boolean {
  return method === 'POST' ? now.bound && personOf(now) !== personOf(before) : !now.bound
}

const send = (c: Client, method: string, access: string, body?: BindRequest): Promise<Answer> =>
  call(
    c.shared.wx,
    patience,
    method,
    `${c.shared.baseURL}/v1/binding`,
    { 'content-type': 'application/json', Authorization: `Bearer ${access}` },
    body,
  )

/**
 * storeAnswer stores the binding and the access token of the answer. It keeps the current
 * refresh token, which stays valid.
 */
function storeAnswer(c: Client, d: Unchecked<TokenAnswer>, sent: number, asked: Stored): Stored | undefined {
  const current = load(c.shared)
  if (!current || typeof d.bound !== 'boolean') return
  const now = { bound: d.bound, person: readPerson(d.person as Unchecked<Person> | null) }
  if (typeof d.access_token === 'string' && (d.expires_in as number) > 0)
    return save(
      c.shared,
      Object.assign({}, current, now, {
        access: d.access_token,
        at: Date.now(),
        until: expiry(d.expires_in as number, sent),
      }),
    )
  // There is no token if nothing changed: the current one is still right.
  if (now.bound === asked.bound && personOf(now) === personOf(asked))
    return current.access === asked.access ? save(c.shared, Object.assign({}, current, now)) : current
  // Or the token expired while the service made the change: the next request refreshes.
  return save(c.shared, Object.assign({}, current, now, { access: '', at: 0, until: 0 }))
}
