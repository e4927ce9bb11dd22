// Package auth is the vocabulary of Yufu: apps and their policies, identities,
// persons, sessions, cutoffs, audit events, replicas, and the error codes that
// clients see.
//
// It owns the types, their validation and the text rules that are the same for every
// store (UTF-8, no control characters, bounded length). It has no services and
// does no I/O. It imports only the standard library and google/uuid, so every
// other package may import it.
//
// What lives elsewhere: use cases of sessions are in pkg/session, of persons in
// pkg/person, of binding in pkg/binding and of apps in pkg/app, tokens in pkg/token, keys
// in pkg/keyring, storage in db/..., HTTP in api/....
//
// # States
//
// An [App] is enabled or disabled, and so is a [Person]. An [Identity] is enabled,
// disabled or erased (for ever), and bound to a person or unbound; both are
// normal. A [Session] is live, expired (idle or absolute), or ended. An expired or ended
// session never becomes live again.
//
// # Failure
//
// A function that cleans or checks input returns an [Error] with [InvalidRequest]. Its
// description says what is wrong.
package auth
