// Package person implements the use cases of admins for persons and identities.
//
// It owns persons ([Service.CreatePerson] and the others), their import ([PlanUpsert]),
// the form of facts ([FactKey], [NormalizeFact]), the minting of bind tickets, identities
// as admins see and change them, erasure, the lifting of delays, and the contract that a
// database must fulfil for it ([Store]). It does not own binding by the bearer of an
// access token and the rules that slow guessing down (pkg/binding), sessions
// (pkg/session), apps and their policies (pkg/app), or HTTP (api/admin).
//
// # States
//
//	person:   enabled ↔ disabled
//	identity: unbound ↔ bound, enabled ↔ disabled; any → erased
//
// Sessions of a disabled person, and of a disabled or erased identity, end. A disabled
// person or identity can log in again after it is enabled; an ended session stays ended.
// An erased identity keeps its uuid and app but no personal data, and never comes back.
//
// # Failure
//
// Every error has a code of package auth. Changes are harmless to repeat. With an error
// nothing has changed, except in an import, where each row has its own error.
package person
