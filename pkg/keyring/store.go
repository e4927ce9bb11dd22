package keyring

import (
	"context"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// Use is the purpose of a key.
type Use string

// The uses.
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
	// Use is the purpose of the key. Alg is "ES256", "EdDSA" or "RS256", and "HS256"
	// for MAC keys.
	Use Use
	Alg string
	// Sealed is the private key (PKCS #8) or the MAC key, sealed with the
	// row's KID as associated data. It is empty once the key is retired.
	Sealed []byte
	// Public is the public JWK as published, empty for MAC keys.
	Public []byte
	// CreatedAt is the time of the key's first publication.
	CreatedAt time.Time
	// ActiveAt is the time from which the key signs; zero for a next key. Among the
	// keys of one use and alg, the current one has the latest ActiveAt that is not in
	// the future.
	ActiveAt time.Time
	// RetiredAt is the time from which the key is neither used nor published; zero if
	// it is not retired.
	RetiredAt time.Time
}

// Change is a change of the keys, made in one transaction.
type Change struct {
	// Add are new keys.
	Add []StoredKey
	// Update are stored keys whose ActiveAt and RetiredAt are written. Sealed is erased if
	// it is empty here, and else stays as it is stored: the master key may have changed
	// since the key was read.
	Update []StoredKey
	// Compromised are signing keys whose tokens become invalid: each gets a cutoff.
	Compromised []string
	// EndSessions raises the epoch of every app, with its cutoff, so that every
	// session ends.
	EndSessions bool
	// Events are the audit events of the change.
	Events []auth.AuditEvent
}

// Store is the part of a database that the keyring needs. Its methods return
// auth.StorageUnavailable when the database does not answer.
type Store interface {
	// Keys returns all keys, ordered by CreatedAt and KID.
	Keys(ctx context.Context) ([]StoredKey, error)
	// KeysVersion returns a name for the state of the keys that are not retired. The
	// name changes with each change of them.
	KeysVersion(ctx context.Context) (string, error)
	// ChangeKeys calls plan with the stored keys, under a lock that admits one
	// caller at a time across all replicas. It makes the change that plan returns in
	// one transaction, the cutoffs last, and returns all keys in the order of
	// Keys. Replicas are notified as they are of cutoffs. When plan fails, its
	// error is returned unchanged and nothing is written. Updating a key that does not
	// exist is an error.
	ChangeKeys(ctx context.Context, now time.Time, plan func(existing []StoredKey) (Change, error)) ([]StoredKey, error)
}
