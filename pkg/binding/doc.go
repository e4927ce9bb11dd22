// Package binding is how an identity becomes a person, and stops being one.
//
// It owns the use cases of the bearer of an access token ([Service]): to bind by
// facts, by phone, by a one-time ticket or by the business's webhook, to see the
// binding, and to unbind; and those of admins ([Admin]): persons and their import
// ([PlanUpsert]), whom identities are bound to, erasure, policies. It owns the form
// of facts ([FactKey], [NormalizeFact]), the minting of tickets, the rules that slow
// guessing down ([Limit], and the failure budget of each app), and the contracts
// that a database must keep for all of it ([Store], and [PersonStore] for admins).
// It does not own the rules of an app
// (auth.Policy), sessions (pkg/session), tokens (pkg/token), the webhook's protocol
// (binding/webhook), platforms (pkg/platform), or HTTP (api/binding, api/admin).
//
// # States
//
//	unbound → bound → unbound
//	bound → bound to another person, where users may unbind themselves
//
// Both states are normal, and the session survives each step: its row gets the
// person and a higher ver, in the transaction that writes the identity, so a
// refresh says who the user is now, and what was issued before dies. Sessions
// end only where another identity replaces theirs, and where an admin disables or
// erases.
//
// # Failure
//
// Every error has a code of package auth. An attempt is counted before anything
// is compared, and given back when it proves right, or when it could not be
// judged because somebody else failed (the database, the platform, the webhook).
// An attempt whose end is unknown stays counted. What an error says does not
// depend on whether a person exists.
package binding
