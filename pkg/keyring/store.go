package keyring

import (
	"context"
	"time"
)

// Use says what a key is for.
type Use string

// The uses there are.
const (
	// UseAccess keys sign access tokens; their public halves are published.
	UseAccess Use = "access"
	// UseRefresh keys authenticate refresh tokens with HMAC-SHA-256.
	UseRefresh Use = "refresh"
)

// StoredKey is one row of signing_keys: a key at rest.
type StoredKey struct {
	// KID is the RFC 7638 thumbprint of a signing key, and 8 hexadecimal
	// digits for a MAC key. Primary key.
	KID string
	// Use and Alg say what the key does: "ES256", or "HS256" for MAC keys.
	Use Use
	Alg string
	// Sealed is the private key (PKCS #8) or the MAC key, sealed with the
	// row's KID as associated data.
	Sealed []byte
	// Public is the public JWK as published, empty for MAC keys.
	Public []byte
	// CreatedAt is when the key was published first.
	CreatedAt time.Time
	// ActiveAt is since when it signs; zero for the next key. Among the keys
	// of one use and alg, the current one has the latest ActiveAt.
	ActiveAt time.Time
	// RetiredAt is since when it is no longer used or published; zero while it
	// is good.
	RetiredAt time.Time
}

// Store is what the keyring needs of a database. Both methods return
// auth.StorageUnavailable when it does not answer.
type Store interface {
	// Keys returns all keys, ordered by CreatedAt and KID.
	Keys(ctx context.Context) ([]StoredKey, error)

	// AddKeys hands the keys there are to propose, under a lock that admits
	// one caller at a time across all replicas, inserts what it returns
	// together with one audit event each (auth.AuditKeyCreated, actor
	// auth.ActorService, detail kid, use and alg, at now), commits, and
	// returns all keys in the order of Keys. When propose fails, nothing is
	// written.
	AddKeys(ctx context.Context, now time.Time, propose func(existing []StoredKey) ([]StoredKey, error)) ([]StoredKey, error)
}
