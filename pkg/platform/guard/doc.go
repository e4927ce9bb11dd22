// Package guard stands between the service and a platform, so that neither
// hurts the other.
//
// It owns, per app and kind of call (log-ins, phone numbers), each guarded by
// itself: a circuit breaker, the platform's request for a pause, and
// the memory of codes that were sent a while ago; and for all apps together a
// bound on how many calls are under way. It does not own the platform's protocol
// (the provider it wraps does) nor limits on clients (api/web).
//
// # States
//
// The breaker of an app is closed; open after several failures in a row or when
// most calls of half a minute failed; half-open when a pause is over, and then
// lets a few calls through to find out. Only the platform's failures count:
// busy, out of order, silent. What the platform says about a code or a user is
// an answer, not a failure. What never went out, and an answer that nobody here
// knows, count neither way: whoever can provoke them moves nothing.
//
// A code that was sent is spent. When it comes again, the first time is told to
// the caller ([platform.CodeReuse]) with the network that used it first; so are
// codes of which the platform says that they were used. A code that the platform
// does not know may come as often as anyone likes.
//
// A code that was sent is spent, so its answer is heard even when the caller
// hangs up. One that the provider says is unspent may come again. Nobody spoils a
// probe by hanging up, or gets around a limit.
//
// When the platform asks for a pause (its quota), the caller that was told so is
// held back for a minute, but for one call a second: other users behind the same
// address get in, and the hold ends as soon as the platform lets one of them in.
// Only when several callers were told so within that minute, and no caller was
// let in meanwhile, is the whole app held back: the quota may be counted per
// user, and then one user could otherwise keep everybody out. For the same reason
// callers of one IPv6 /48 are one, and an app that is held back lets one call a
// second through of the callers that are not held back, and one of all others.
// A caller that had its turn is one of the others from then on. The hold is over
// as soon as the platform lets a caller in. A turn is taken right before a call
// goes out, so what is refused here uses up none.
//
// # Failure
//
// A refusal is [auth.PlatformUnavailable], [auth.PlatformQuota] or
// [auth.CodeUsed] (for a phone code, [auth.PhoneCodeInvalid]), the first two with
// the time to wait, and costs the platform nothing. The memory is this process's:
// after a restart, or on another replica, the platform itself refuses a code that
// comes twice.
package guard
