// Package keyring owns the keys of tokens: asymmetric keys that sign access
// tokens, and MAC keys that authenticate refresh tokens. It generates them, keeps
// them sealed at rest, publishes the public keys as a JWK set, selects the current
// key ([Ring]), and rotates keys ([Keeper]).
//
// It does not own the tokens (pkg/token), the master key (pkg/seal), or the
// database ([Store]).
//
// # States of a key
//
//	next      published, does not sign yet
//	current   published, signs
//	previous  published so that its signatures verify, no longer signs
//	retired   not published, does not sign; its private key is wiped, its row stays
//
// There is always a next key besides the current one. It becomes current at its
// ActiveAt, when it has been published for longer than validators keep a copy of the
// JWK set. A validator therefore never meets a key that it could not have fetched. A
// previous key is retired when everything that it signed has expired; for a MAC key,
// when all sessions of its time have expired.
//
// Replicas need not switch at the same moment: each replica knows the next key long
// before any replica signs with it, and keeps the previous key for long after that.
//
// # A key that has leaked
//
// The key is retired at once, and another key signs from the same transaction on: the
// next key if every validator knows it, otherwise a previous key until then. For a
// signing key, a cutoff is written and kept for ever: validators refuse the tokens of
// this key, even with an old copy of the JWK set. Sessions stay live. The holder of a
// MAC key could make a refresh token for any session, also for one whose own token
// another key signed, and take the session over. So every session ends by its app's
// epoch, which is one row for each app. Refresh tokens of the retired key are refused
// before the database is asked. Yufu can no longer prove that it issued them, so they
// are as invalid as forged ones.
//
// # A database that lost its latest commits
//
// After a restore, or a fail-over to a standby that was behind, the database may have a
// key that had been retired. A ring never again uses a key that it has seen retired, or
// one that a cutoff hits ([Ring.SetCutoffCheck]). The next key signs in its place until
// [Keeper.ApplyPolicy] has retired it in the database again.
//
// # Failure
//
// [Open] fails when a key does not open with the master key, or when a stored public
// key does not belong to its private key: a service that cannot trust its keys does not
// start. Later lookups are in memory and do not need the database; while it does not
// answer, the keys do not change. Rotation uses the database's clock, so a replica with
// a wrong clock retires nothing too early.
package keyring
