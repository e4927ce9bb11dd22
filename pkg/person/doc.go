// Package person is the use cases of admins over persons and identities.
//
// It owns persons ([Service.CreatePerson] and the others), their import ([PlanUpsert]),
// the form of facts ([FactKey], [NormalizeFact]), the minting of bind tickets, identities
// as admins see and change them, erasure, the lifting of delays, and the contract that a
// database keeps for all of it ([Store]). It does not own what the bearer of an access
// token does to become a person and the rules that slow guessing down (pkg/binding),
// sessions (pkg/session), apps and their policies (pkg/app), or HTTP (api/admin).
//
// # States
//
//	person:   enabled ↔ disabled
//	identity: unbound ↔ bound, enabled ↔ disabled, and at last erased
//
// Sessions of a disabled person, and of a disabled or erased identity, end. A disabled
// person or identity can log in again after it is enabled; an ended session stays ended.
// An erased identity keeps its uuid and nothing else, and never comes back.
//
// # Failure
//
// Every error has a code of package auth. Changes are harmless to repeat. With an error
// nothing has changed, except in an import, where each row has an error of its own.
package person
