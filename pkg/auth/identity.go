package auth

import "github.com/google/uuid"

// SubjectOpenID is the kind of subject that WeChat and most platforms issue: an id of the
// user in one app.
const SubjectOpenID = "openid"

// PlatformAccount identifies a user of an app to the platform.
type PlatformAccount struct {
	// SubjectKind says what Subject is, for example [SubjectOpenID]. A platform may
	// issue subjects of several kinds, and the same text means another user in each.
	SubjectKind string
	// Subject is the platform's id of the user. It is never empty, except in an
	// identity that was erased.
	Subject string
	// UnionID identifies the user in all apps of one owner. It is empty until the platform
	// sends it.
	UnionID string
}

// OpenIDAccount returns the account of an openid whose unionid is not known.
func OpenIDAccount(openID string) PlatformAccount {
	return PlatformAccount{SubjectKind: SubjectOpenID, Subject: openID}
}

// OpenID returns the subject if it is an openid, and "" otherwise.
func (a PlatformAccount) OpenID() string {
	if a.SubjectKind != SubjectOpenID {
		return ""
	}
	return a.Subject
}

// Identity is one platform account in one app. Its UUID is an identifier,
// never a credential.
type Identity struct {
	// UUID never changes. Version 7.
	UUID uuid.UUID
	// AppID, SubjectKind and Subject name the platform account. A known UnionID is kept.
	AppID string
	PlatformAccount
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
