package keyring

import (
	"context"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
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
	// Use and Alg say what the key does: "ES256", "EdDSA" or "RS256", and
	// "HS256" for MAC keys.
	Use Use
	Alg string
	// Sealed is the private key (PKCS #8) or the MAC key, sealed with the
	// row's KID as associated data. It is empty once the key is retired.
	Sealed []byte
	// Public is the public JWK as published, empty for MAC keys.
	Public []byte
	// CreatedAt is when the key was published first.
	CreatedAt time.Time
	// ActiveAt is since when it signs, or from when on it will; zero for the
	// next key. Among the keys of one use and alg, the current one has the
	// latest ActiveAt that is not ahead.
	ActiveAt time.Time
	// RetiredAt is since when it is no longer used or published; zero while it
	// is good.
	RetiredAt time.Time
}

// Change is what happens to the keys at once.
type Change struct {
	// Add are new keys.
	Add []StoredKey
	// Update are keys that there are; of these Sealed, ActiveAt and RetiredAt
	// are written.
	Update []StoredKey
	// Compromised are signing keys whose tokens are dead: each gets its cutoff.
	Compromised []string
	// EndSessions raises the epoch of every app, with its cutoff, so that every
	// session ends.
	EndSessions bool
	// Events is the audit trail of it.
	Events []auth.AuditEvent
}

// Store is what the keyring needs of a database. Its methods return
// auth.StorageUnavailable when it does not answer.
type Store interface {
	// Keys returns all keys, ordered by CreatedAt and KID.
	Keys(ctx context.Context) ([]StoredKey, error)
	// KeysVersion names the state of the keys that are not retired. After a
	// change it is another one.
	KeysVersion(ctx context.Context) (string, error)
	// ChangeKeys hands the keys there are to plan, under a lock that admits one
	// caller at a time across all replicas, makes the change that it returns in
	// one transaction, the cutoffs last, and returns all keys in the order of
	// Keys. Replicas hear of it as they hear of cutoffs. When plan fails, its
	// error comes back as it is and nothing is written. A key to update that is
	// not there is an error.
	ChangeKeys(ctx context.Context, now time.Time, plan func(existing []StoredKey) (Change, error)) ([]StoredKey, error)
}
