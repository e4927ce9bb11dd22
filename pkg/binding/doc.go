// Package binding lets the bearer of an access token bind an identity to a person, and
// unbind it.
//
// It owns the use cases of the bearer ([Service]): bind, show the binding, unbind. Each
// binding method is a file (byfacts.go, byphone.go, byticket.go, bywebhook.go) and a row
// of methods (method.go): which members a request has, which fields the policy requires,
// how the person is found, what an attempt is counted against. It owns the rules that
// slow guessing down ([Limit], and the failure budget of each app), and the contract that
// a database must fulfil for it ([Store]). It does not own persons, facts and tickets
// or their management (pkg/person), the rules of an app (auth.Policy), sessions
// (pkg/session), tokens (pkg/token), the webhook's protocol (binding/webhook), platforms
// (pkg/platform), or HTTP (api/binding).
//
// # States
//
//	unbound → bound → unbound
//	bound → bound to another person, where users may unbind themselves
//
// Both states are normal, and the session survives each step. In the transaction that
// writes the identity, the session's row gets the person and a higher ver: the next
// refresh names the new person, and tokens issued before are invalid. Sessions end only
// if another identity replaces theirs.
//
// # Failure
//
// Every error has a code of package auth. An attempt is counted before anything is
// compared. It is refunded if it was right, or if it could not be judged because the
// database, the platform or the webhook failed. An attempt with an unknown result stays
// counted. Errors do not depend on whether a person exists.
package binding
