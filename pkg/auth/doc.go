// Package auth is the vocabulary of Yufu: apps and their policies, identities,
// persons, sessions, cutoffs, audit events, replicas, and the error codes that
// clients see.
//
// It owns the words, their validation and the text rules that keep every store
// alike (UTF-8, no control characters, bounded length). It has no services and
// does no I/O; it imports the standard library and google/uuid only, so every
// other package may import it.
//
// What lives elsewhere: use cases over sessions are in pkg/session, those over
// persons in pkg/person, over binding in pkg/binding, over apps in pkg/app, tokens in pkg/token, keys in pkg/keyring,
// storage in db/..., HTTP in api/....
//
// # States
//
// An [App] is enabled or disabled, and so is a [Person]. An [Identity] is enabled,
// disabled or, for good, erased, and bound to a person or unbound; both are
// normal. A [Session] is live, expired (idle or absolute), or ended; it never
// comes back to life.
package auth
