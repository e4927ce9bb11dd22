package servicekey

import (
	"context"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// Scope is what a key may be used for.
type Scope string

// The scopes there are.
const (
	// ScopeService: introspect, verify, follow the revocation feed.
	ScopeService Scope = "service"
	// ScopeOpenID: see openids and unionids in answers.
	ScopeOpenID Scope = "openid"
	// ScopeDecrypt: have platform data decrypted.
	ScopeDecrypt Scope = "decrypt"
	// ScopeRead: read through the admin API.
	ScopeRead Scope = "read"
	// ScopeAdmin: everything the admin API can do.
	ScopeAdmin Scope = "admin"
)

// Key is one row of service_keys.
type Key struct {
	// ID is the part of the key that names it: [0-9a-z]{16}.
	ID string
	// Name is for people.
	Name   string
	Scopes []Scope
	// Apps restricts the key to these apps; empty means all.
	Apps []string
	// Hash is the SHA-256 of the secret part.
	Hash      [32]byte
	CreatedAt time.Time
	// LastUsedAt is about when it was used last, in steps of a minute; zero
	// means never.
	LastUsedAt time.Time
	// RevokedAt is since when it is void; zero means it is good.
	RevokedAt time.Time
}

// Store is what service keys need of a database. Methods return
// [auth.StorageUnavailable] when it does not answer.
type Store interface {
	// AddServiceKey writes a new key with its audit event.
	AddServiceKey(ctx context.Context, k Key, event auth.AuditEvent) error
	// ServiceKey returns a key, or [auth.NotFound].
	ServiceKey(ctx context.Context, id string) (Key, error)
	// ServiceKeys returns all keys, ordered by CreatedAt and ID.
	ServiceKeys(ctx context.Context) ([]Key, error)
	// RevokeServiceKey makes a key void, with its audit event; one that is void
	// already stays as it is. It returns [auth.NotFound] for an unknown id.
	RevokeServiceKey(ctx context.Context, id string, event auth.AuditEvent) error
	// TouchServiceKey sets LastUsedAt, unless it is that late already.
	TouchServiceKey(ctx context.Context, id string, at time.Time) error
}
