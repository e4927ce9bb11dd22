// Package session starts, refreshes and ends sessions: a client exchanges a
// platform code for a session, refreshes it, and the session ends.
//
// It owns the rules of a session's life ([Judge], [State.RefreshError]), the rate at
// which a session may be refreshed ([Service.Refresh]), the use cases ([Service], and
// [Revoker] for admins), and the contracts that a database must fulfil for them
// ([Store], [RevocationStore], [RestorationStore]). It does not own the binding of
// users to persons (pkg/binding), tokens and keys (pkg/token, pkg/keyring),
// platforms (pkg/platform), or HTTP (api/oauth, api/binding, api/admin).
//
// # States
//
//	live → refreshed (one generation on, same row) → live
//	live → bound to another person, or unbound (same row, next ver) → live
//	live → expired: idle, or absolute
//	live → ended: logout, late replay, reuse, the session limit, replaced by
//	       another identity of the person, or by an admin
//
// An expired or ended session never becomes live again. A refresh is idempotent
// within a fixed window: the token that was just rotated yields the same successor
// again, so a lost answer or two racing requests do not force a new log-in. After the
// window the same token ends the session, because a thief may have sent it.
//
// # Time
//
// All times are by the database's clock ([Config.Clock]), so replicas agree on windows
// and expiries even if their own clocks differ. A session whose rotation lies in the
// future is inside its window. A replica that does not know the database's time well
// enough grants nothing ([Config.CheckMayIssue]), but still ends and lists sessions. For
// one window after the database's timeline changed ([Config.TimelineChanged]), a token
// that is one generation behind yields its successor at any age: its client could not ask in
// time, or the new clock is ahead of the old one.
//
// # A database that lost its latest commits
//
// After a restore, or a fail-over to a standby that was behind, the rows lack
// revocations that validators remember, and validators would refuse tokens minted from
// these rows. A [Restorer] raises the rows to what this replica remembers: all rows when
// the timeline of the database has changed, and one row before each grant. A replica that
// was not running at that time remembers nothing. It grants nothing until an operator has
// ended all sessions ([RestorationStore.EndEverything]).
//
// # Failure
//
// Every error has a code of package auth. When the database does not answer,
// an exchange fails before the platform code is used up. When the platform does
// not answer, only new log-ins fail.
package session
