// Package accesstoken holds the access token with which a platform wants to be
// called on behalf of an app: one per app, whatever the number of replicas,
// because issuing another may kill it.
//
// It owns when the token is renewed, who may do so, and how it is kept. It does
// not own how a platform is asked for one ([Fetch]) nor what it is good for.
//
// # States
//
// An app's token is absent, good, about to expire, or dead: the platform refuses
// it before its time. It is kept in the database, sealed, and each replica
// remembers what it read there. What does not open (the master key was replaced)
// counts as absent.
//
// Whoever finds no good token takes the app's lease first, which is a row written
// in a transaction of its own: nothing is locked while the platform is asked. He
// then looks again, because the lease's last holder may just have been there, and
// asks the platform only if he must. The others wait for him, look again, and take
// over when he vanished.
//
// # A token that died
//
// is mostly one that somebody else replaced, such as another program with the same
// AppSecret. So the platform is first asked for the token that is good now, which
// costs nobody anything. Only when it hands out the dead one again is it made to
// issue another. That is limited by the platform, and counted in the database
// before it is done, so that replicas do not use up the day's ration together, or
// kill each other's tokens in turn.
//
// # Failure behaviour
//
// Errors are [ErrDead] and [ErrBusy], as causes of an [auth.Error] that says how
// long to wait, the store's, those of [Fetch], or the context's. No error text
// holds a token. A replica that dies with the lease delays the others by the
// lease's length at most.
package accesstoken
