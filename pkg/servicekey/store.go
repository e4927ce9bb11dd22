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
	// Creator is the actor who made the key, as the audit trail names actors: "cli",
	// "service", or [auth.ActorServiceKey] of the key that made it.
	Creator string
	// ExpiresAt is when the key stops working; zero means never.
	ExpiresAt time.Time
	// LastUsedAt is about when it was used last, in steps of a minute; zero
	// means never.
	LastUsedAt time.Time
	// RevokedAt is since when it is void; zero means it is good.
	RevokedAt time.Time
	// PinnedApp is the stored pin; [Key.Pinned] says which pin counts. PinnedAt is
	// when it was decided; zero means not yet. A key can be decided to have no pin.
	PinnedApp string
	PinnedAt  time.Time
}

// Good reports whether the key works at now.
func (k *Key) Good(now time.Time) bool { return k.RevokedAt.IsZero() && !k.Expired(now) }

// Expired reports whether the key has stopped working by its expiry.
func (k *Key) Expired(now time.Time) bool { return !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt) }

// Pinned returns the app to which the key is pinned, or "". A validator that names
// neither an audience nor apps accepts tokens of this app only. A key that is
// restricted to one app is pinned to it.
func (k *Key) Pinned() string {
	switch {
	case k.PinnedApp != "":
		return k.PinnedApp
	case len(k.Apps) == 1:
		return k.Apps[0]
	default:
		return ""
	}
}

// pinUndecided reports whether the first use of the feed decides the pin.
func (k *Key) pinUndecided() bool { return !k.Restricted() && k.PinnedAt.IsZero() }

// Store is what service keys need of a database. Methods return
// [auth.StorageUnavailable] when it does not answer.
type Store interface {
	// AddServiceKey writes a new key with its audit event. It returns
	// [auth.ServiceKeyInvalid] when its creator is a service key that does not work
	// any more: no key is made beside the revocation of its creator.
	AddServiceKey(ctx context.Context, k Key, event auth.AuditEvent) error
	// ServiceKey returns a key, or [auth.NotFound].
	ServiceKey(ctx context.Context, id string) (Key, error)
	// ServiceKeys returns all keys, ordered by CreatedAt and ID.
	ServiceKeys(ctx context.Context) ([]Key, error)
	// RevokeServiceKey makes a key void and, with descendants, every key that it
	// made, that those made, and so on. Each that was not void gets an audit event, as
	// [RevokeEvent] has it; one that is void already stays as it is. The living
	// descendants are those that work at event.At and were not revoked. It returns
	// [auth.NotFound] for an unknown id.
	RevokeServiceKey(ctx context.Context, id string, descendants bool, event auth.AuditEvent) (Revocation, error)
	// FirstPinServiceKey decides the pin of a key, with its audit event, and returns
	// the key as it is then. An unrestricted key whose pin was not decided yet is
	// pinned to the app that is enabled, if it is the only one; with several enabled
	// apps the key is decided to have no pin. Without an enabled app nothing is
	// decided. A key whose pin was decided, and a restricted key, stay as they are.
	// Of calls at the same time one decides. The event is written as [PinEvent] has it.
	// It returns [auth.NotFound] for an unknown id.
	FirstPinServiceKey(ctx context.Context, id string, event auth.AuditEvent) (Key, error)
	// PinServiceKey sets the pin of a key, "" for none, with its audit event, and
	// returns the key as it is then. Check is asked about the locked row; its error
	// is returned and changes nothing. It returns [auth.NotFound] for an unknown id.
	PinServiceKey(ctx context.Context, id, appID string, check func(Key) error, event auth.AuditEvent) (Key, error)
	// TouchServiceKey sets LastUsedAt, unless it is that late already.
	TouchServiceKey(ctx context.Context, id string, at time.Time) error
}

// Revocation is what a revocation of a key did.
type Revocation struct {
	// Revoked are the keys that became void.
	Revoked []Key
	// Living are the descendants that work still.
	Living []Key
}
