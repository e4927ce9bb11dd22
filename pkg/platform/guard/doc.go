// Package guard sits between the service and a platform and protects each from the other.
//
// It owns, per app and kind of call (log-ins, phone numbers): a circuit breaker, the
// pause after the platform's rate limit, and the memory of codes that were sent. For all
// apps together it owns a limit on concurrent calls. It does not own the platform's
// protocol (the wrapped provider does) nor limits on clients (api/web).
//
// # States
//
// The breaker of an app is closed; open after several failures in a row, or when at least
// half of the calls of half a minute failed; half-open after a pause, when it lets a few
// calls through as a test. Only the platform's failures count: busy, out of order,
// silent. What the platform says about a code or a user is an answer, not a failure.
// Calls that never went out and unknown answers count neither as success nor as failure,
// so a client that can provoke them cannot move the breaker.
//
// A code that was sent is used up. When it is presented again, the first repetition is
// reported to the caller ([platform.CodeReuse]) with the network that used it first.
// Codes that the platform calls used are reported too. A code that the platform does not
// know may be repeated without a report.
//
// The answer for a sent code is awaited even when the caller hangs up. A code that the
// provider reports as unspent may be sent again. So a client cannot spoil a probe or
// avoid a limit by hanging up.
//
// When the platform's rate limit is reached, the caller that was told so is held back for
// a minute, except for one call a second: other users behind the same address get in, and
// the hold ends as soon as the platform lets one of them in. The whole app is held back
// only if several callers were told so within that minute and no caller was let in
// meanwhile: the quota may be counted per user, and then one user could otherwise lock
// out all others. For the same reason, callers of one IPv6 /48 count as one. An app that
// is held back lets one call a second through for the callers that are not held back, and
// one for all others. A caller that had its turn counts as one of the others from then
// on. The hold ends as soon as the platform lets a caller in. A turn is taken right
// before a call goes out, so a call that is refused here uses up no turn.
//
// # Failure
//
// A refusal is [auth.PlatformUnavailable], [auth.PlatformQuota] or [auth.CodeUsed] (for a
// phone code, [auth.PhoneCodeInvalid]), the first two with the time to wait, and causes
// no call to the platform. The memory belongs to this process: after a restart, or on
// another replica, the platform itself refuses a repeated code.
package guard
