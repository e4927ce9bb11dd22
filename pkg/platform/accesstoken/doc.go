// Package accesstoken keeps the access token with which a platform's API is called for an
// app. There is one per app, regardless of the number of replicas, because a new one may
// invalidate the old one.
//
// It owns the renewal of the token, the right to renew it, and its storage. It does not
// own the request to the platform ([Fetch]) nor the use of the token.
//
// # States
//
// An app's token is absent, valid, about to expire, or dead: the platform refuses it
// before its time. It is stored in the database, sealed, and each replica caches what it
// read there. A token that cannot be opened (the master key was replaced) counts as
// absent.
//
// A caller that finds no valid token first takes the app's lease: a row written in its own
// transaction, so nothing is locked during the call to the platform. It then reads the
// token again, because the last holder of the lease may have just renewed it, and calls
// the platform only if necessary. The other callers wait for the holder, read again, and
// take over if the holder disappears.
//
// # Dead tokens
//
// A token usually dies because another program with the same AppSecret replaced it. So
// the platform is first asked for its current token, which disturbs no other program.
// Only if that is the dead token, the platform is made to issue a new one. The platform
// limits this, and each use is counted in the database beforehand, so that replicas
// neither use up the daily quota together nor invalidate each other's tokens in turn.
//
// # Failure behaviour
//
// Errors are [ErrDead] and [ErrBusy], as causes of an [auth.Error] that says how long to
// wait, or errors of the store, of [Fetch] or of the context. No error text contains a
// token. A replica that dies while it holds the lease delays the others by at most the
// length of the lease.
package accesstoken
