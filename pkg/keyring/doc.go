// Package keyring owns the keys that tokens are made of: asymmetric keys that
// sign access tokens, and MAC keys that authenticate refresh tokens. It
// generates them, keeps them sealed at rest, publishes the public halves as a
// JWK set, says which one is current ([Ring]), and has one take over from
// another ([Keeper]).
//
// It does not own the tokens (pkg/token), the master key (pkg/seal), or the
// database (a [Store] is handed in).
//
// # States of a key
//
//	next      published, does not sign yet
//	current   signs; published
//	previous  signs no more; published, so that what it signed still verifies
//	retired   neither; its private half is gone, its row stays
//
// There is always a next key beside the current one. It takes over by its
// ActiveAt: when the key has been published for longer than validators keep a
// copy of the JWK set, so that none of them ever meets a key that it could not
// have fetched. A previous key is retired when nothing that it signed is good
// any more, for MAC keys when no session is left that it knew.
//
// Replicas need not agree on the moment: each of them knows the next key long
// before any of them signs with it, and the previous one long after.
//
// # A key that has leaked
//
// It is retired at once, and another one takes over in the same transaction: the
// next one if everybody knows it by now, else a previous one until then. Of a
// signing key a cutoff is written that is kept for ever: validators refuse its
// tokens, whatever copy of the JWK set they have; sessions live on. With a MAC
// key whoever has it could make a refresh token of any session, whichever key
// signed that session's own, and take it over. So every session ends, by its
// app's epoch, which is one row for each app. What the dead key signed is
// refused before the database is asked; that it was ours cannot be told any
// more, so it is as invalid as a forged one.
//
// # A database that lost its latest commits
//
// After a restore, or a fail-over to a standby that was behind, the database may have a
// key that had been retired. A ring never uses a key again that it has seen retired, nor
// one that a cutoff hits ([Ring.Distrust]). The next key signs in its place until
// [Keeper.ApplyPolicy] has retired it in the database again.
//
// # Failure
//
// [Open] fails when a key does not open with the master key, or when a public
// key at rest does not belong to its private one: a service that cannot trust
// its keys does not start. Lookups afterwards are in memory and cannot fail
// for want of a database; while it does not answer, the keys stay as they are.
// Rotation goes by the database's clock, so that one replica whose clock is
// wrong retires nothing too early.
package keyring
