package auth

import "github.com/google/uuid"

// Identity is one platform account in one app. Its UUID is an identifier,
// never a credential.
type Identity struct {
	// UUID never changes. Version 7.
	UUID uuid.UUID
	// AppID and OpenID name the platform account.
	AppID, OpenID string
	// UnionID is empty until the platform sends it; after that it is kept.
	UnionID string
	// Person is the bound person's id, or uuid.Nil while unbound.
	Person uuid.UUID
	// Disabled identities neither exchange nor refresh.
	Disabled bool
	// PersonDisabled mirrors the bound person's status, so that an exchange needs to
	// lock only this row.
	PersonDisabled bool
}

// Person is a business account as tokens and answers show it.
type Person struct {
	// ID is the id that Yufu assigned: a UUID, version 7.
	ID uuid.UUID
	// ExternalID is the business's own id for the person.
	ExternalID string
	// Name is for display.
	Name string
}
