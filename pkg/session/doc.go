// Package session is the life of a log-in: a platform code is exchanged for a
// session, the session is refreshed, and it ends.
//
// It owns the rules of that life ([Judge], [State.RefreshError]), the pace at which a
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
// # Time
//
// All times are by the database's clock ([Config.Clock]), so replicas agree on windows
// and expiries whatever their own clocks say. A session that was rotated in the future
// is inside of its window. A replica that does not know that time well enough grants
// nothing ([Config.Fit]); it still ends sessions and tells about them. For one window
// after the database became another one ([Config.HistoryChanged]), a token that is one
// generation behind yields its successor however late it comes: its client could not
// ask in time, or the new clock says that time has passed.
//
// # A database that lost its latest commits
//
// After a restore, or a fail-over to a standby that was behind, rows say less than the
// revocations that validators remember, and validators would refuse tokens minted from
// them. A [Restorer] raises the rows from what this replica remembers: all of them when
// it meets the database, and each one again before a grant. A replica that was not
// running then remembers nothing. It grants nothing until an operator has ended all
// sessions ([RestorationStore.EndEverything]).
//
// # Failure
//
// Every error has a code of package auth. When the database does not answer,
// an exchange fails before the platform code is spent. When the platform does
// not answer, nothing but new log-ins is affected.
package session
