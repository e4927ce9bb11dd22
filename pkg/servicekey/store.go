package servicekey

import (
	"context"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
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
	// LastUsedAt is the approximate time of the last use, in steps of a minute; zero
	// means never.
	LastUsedAt time.Time
	// RevokedAt is when the key was revoked; zero means never.
	RevokedAt time.Time
	// PinnedApp is the stored pin; [Key.Pinned] says which pin counts. PinnedAt is
	// when it was decided; zero means not yet. A key can be decided to have no pin.
	PinnedApp string
	PinnedAt  time.Time
}

// Good reports whether the key works at now.
func (k *Key) Good(now time.Time) bool { return k.RevokedAt.IsZero() && !k.Expired(now) }

// Expired reports whether the key has expired at now.
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

// Store is the part of a database that service keys need. Methods return
// [auth.StorageUnavailable] when the database does not answer.
type Store interface {
	// AddServiceKey writes a new key with its audit event. It returns
	// [auth.ServiceKeyInvalid] when its creator is a service key that no longer
	// works, so that no key is made during the revocation of its creator.
	AddServiceKey(ctx context.Context, k Key, event auth.AuditEvent) error
	// ServiceKey returns a key, or [auth.NotFound].
	ServiceKey(ctx context.Context, id string) (Key, error)
	// ServiceKeys returns all keys, ordered by CreatedAt and ID.
	ServiceKeys(ctx context.Context) ([]Key, error)
	// RevokeServiceKey revokes a key and, with descendants, every key that it
	// made, that those made, and so on. Each key that was not revoked before gets the
	// audit event of [RevokeEvent]; other keys do not change. The living
	// descendants are those that work at event.At and were not revoked. It returns
	// [auth.NotFound] for an unknown id.
	RevokeServiceKey(ctx context.Context, id string, descendants bool, event auth.AuditEvent) (Revocation, error)
	// FirstPinServiceKey decides the pin of a key, with its audit event, and returns
	// the key afterwards. An unrestricted key whose pin was not decided yet is
	// pinned to the enabled app if there is only one; with several enabled
	// apps the key is decided to have no pin. Without an enabled app nothing is
	// decided. A key whose pin was decided, and a restricted key, do not change.
	// Of concurrent calls one decides. The event is that of [PinEvent].
	// It returns [auth.NotFound] for an unknown id.
	FirstPinServiceKey(ctx context.Context, id string, event auth.AuditEvent) (Key, error)
	// PinServiceKey sets the pin of a key, "" for none, with its audit event, and
	// returns the key afterwards. It calls check with the locked row; if check returns
	// an error, PinServiceKey returns it and changes nothing. It returns [auth.NotFound]
	// for an unknown id.
	PinServiceKey(ctx context.Context, id, appID string, check func(Key) error, event auth.AuditEvent) (Key, error)
	// TouchServiceKey sets LastUsedAt, unless it has that or a later time already.
	TouchServiceKey(ctx context.Context, id string, at time.Time) error
}

// Revocation is the result of the revocation of a key.
type Revocation struct {
	// Revoked are the keys that were revoked.
	Revoked []Key
	// Living are the descendants that still work.
	Living []Key
}
