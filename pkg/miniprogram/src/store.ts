// The session in the phone's storage, the only place where it is kept.

import type { Person, Session, Wx } from './api'
import type { Unchecked } from './errors'

/**
 * The value under one key. Times are in milliseconds of the phone's clock. In the
 * storage a person has only its `id`, which shows whether the binding changed.
 */
export interface Stored extends Session {
  access: string
  refresh: string
  /** When the access token arrived. */
  at: number
  /** When to refresh it, at the latest. */
  until: number
}

/** The form of a token (RFC 6750 §2.1); other characters are not safe in a header. */
const token = /^[\w.~+/-]+=*$/

/**
 * parse returns a stored value if this package wrote it. A value with a refresh token is
 * never dropped: a session whose other half is damaged refreshes.
 */
export function parse(value?: Unchecked<Stored> | null): Stored | undefined {
  if (!value || typeof value !== 'object' || typeof value.refresh !== 'string' || !token.test(value.refresh)) return
  const sound =
    typeof value.access === 'string' &&
    token.test(value.access) &&
    typeof value.uuid === 'string' &&
    value.uuid &&
    (value.at as number) > 0 &&
    (value.until as number) > 0
  return {
    refresh: value.refresh,
    access: sound ? (value.access as string) : '',
    at: sound ? (value.at as number) : 0,
    until: sound ? (value.until as number) : 0,
    uuid: String(value.uuid),
    bound: value.bound === true,
    // Checked by `read`.
    person: value.person as Person | null,
  }
}

export function readPerson(p?: Unchecked<Person> | null): Person | null {
  return p && typeof p.id === 'string' ? { id: p.id, external_id: String(p.external_id), name: String(p.name) } : null
}

const idOf = (p: Unchecked<Person> | null) => p && typeof p.id === 'string' && { id: p.id }

/** complete reports whether the session has all fields of its person. */
export const complete = ({ person }: Stored): boolean => !person || typeof person.name === 'string'

/** The key of the app's session. */
export const keyOf = (baseURL: string, clientId: string) => `yufu ${clientId} ${baseURL}`

/** read returns the stored session, with all fields of the person if it is `known`. */
export function read(wx: Wx, key: string, known?: Person | null): Stored | undefined {
  try {
    const stored = parse(wx.getStorageSync(key) as Unchecked<Stored>)
    if (!stored) return
    const id = idOf(stored.person)
    return Object.assign(stored, { person: id && known && known.id === id.id ? known : id || null })
  } catch (_) {
    return undefined
  }
}

/**
 * write reports whether the phone stored the value. A damaged value may be in the way, so
 * it is removed first in a second attempt.
 */
export function write(wx: Wx, key: string, session: Stored): boolean {
  const stored = Object.assign({}, session, { person: idOf(session.person) || null })
  try {
    wx.setStorageSync(key, stored)
    return true
  } catch (_) {
    try {
      wx.removeStorageSync(key)
      wx.setStorageSync(key, stored)
      return true
    } catch (_) {
      return false
    }
  }
}

export function remove(wx: Wx, key: string): void {
  try {
    wx.removeStorageSync(key)
  } catch (_) {
    // A value that cannot be removed belongs to an ended session, which the service
    // refuses.
  }
}

/** fresh reports whether the access token is valid by the phone's clock. If that clock was set back, it is not. */
export const fresh = (s: Stored, now: number) => s.access !== '' && s.at <= now && now < s.until

/** How long before its end a token with this lifetime is refreshed, in seconds. */
export const margin = (seconds: number) => Math.min(30, seconds / 10)
