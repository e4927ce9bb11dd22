// Package session is the life of a log-in: a platform code is exchanged for a
// session, the session is refreshed, and it ends.
//
// It owns the rules of that life ([Judge], [State.Standing]), the pace at which a
// session may be refreshed ([Service.Refresh]), the use cases
// ([Service], and [Revoker] for admins), and the contracts that a database must
// keep for them ([Store], [RevocationStore]). It does not own whom a session's
// user is bound to (pkg/binding), tokens and keys (pkg/token, pkg/keyring),
// platforms (pkg/platform), or HTTP (api/oauth, api/binding, api/admin).
//
// # States
//
//	live → refreshed (one generation on, same row) → live
//	live → of another person, or of none (same row, next ver) → live
//	live → expired: idle, or absolute
//	live → ended: logout, late replay, reuse, as the oldest of too many,
//	       replaced by another identity of the person, or by an admin
//
// Nothing leads back. A refresh is idempotent within a fixed window: the token
// that was just rotated yields the same successor again, so a lost answer or
// two racing requests cost nobody a log-in; after the window it ends the
// session, because by then it may be a thief.
//
// # Failure
//
// Every error has a code of package auth. When the database does not answer,
// an exchange fails before the platform code is spent. When the platform does
// not answer, nothing but new log-ins is affected.
package session
