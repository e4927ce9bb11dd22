package token

import (
	"cmp"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// AccessType is the JWT header typ of access tokens (RFC 9068 §2.1).
const AccessType = "at+jwt"

// Claims are those of an access token. [Minter] writes them itself: change encode.go together
// with them.
type Claims struct {
	Issuer    string           `json:"iss"`
	Subject   uuid.UUID        `json:"sub"`
	Audience  jwt.ClaimStrings `json:"aud"`
	ClientID  string           `json:"client_id"`
	IssuedAt  *jwt.NumericDate `json:"iat"`
	ExpiresAt *jwt.NumericDate `json:"exp"`
	ID        string           `json:"jti"`
	Session   uuid.UUID        `json:"sid"`
	Ver       int64            `json:"ver"`
	Epoch     int64            `json:"epoch"`
	Bound     bool             `json:"bound"`
	Person    *uuid.UUID       `json:"person,omitempty"`
	// ExternalID is the business's own id of the person, as old as the refresh.
	ExternalID string `json:"external_id,omitempty"`
}

// Owner returns the subject of the token.
func (c *Claims) Owner() auth.Subject {
	return auth.Subject{AppID: c.ClientID, Identity: c.Subject, Session: c.Session}
}

// The methods that make Claims a jwt.Claims.

// GetExpirationTime returns exp.
func (c *Claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.ExpiresAt, nil }

// GetIssuedAt returns iat.
func (c *Claims) GetIssuedAt() (*jwt.NumericDate, error) { return c.IssuedAt, nil }

// GetNotBefore returns nothing: our tokens have no nbf.
func (c *Claims) GetNotBefore() (*jwt.NumericDate, error) { return nil, nil }

// GetIssuer returns iss.
func (c *Claims) GetIssuer() (string, error) { return c.Issuer, nil }

// GetSubject returns sub.
func (c *Claims) GetSubject() (string, error) { return c.Subject.String(), nil }

// GetAudience returns aud.
func (c *Claims) GetAudience() (jwt.ClaimStrings, error) { return c.Audience, nil }

// SigningKey is a private key with its name.
type SigningKey struct {
	KID string
	// Alg is the JWS algorithm, for example "ES256".
	Alg string
	Key crypto.Signer
}

// ErrNoKey means that there is no key to sign with now.
var ErrNoKey = errors.New("no current key")

// SigningKeys provides the key that signs new access tokens.
type SigningKeys interface {
	// CurrentSigningKey returns the key of the algorithm at now, or [ErrNoKey]. Its Alg
	// may be another one, as long as no key of the algorithm may sign yet.
	CurrentSigningKey(alg string, now time.Time) (SigningKey, error)
}

// DefaultAlg is the JWS algorithm of apps that choose none.
const DefaultAlg = auth.DefaultSigningAlg

// Minter mints access tokens. It is safe for concurrent use.
type Minter struct {
	keys SigningKeys
	ttl  time.Duration
	// issuer is the JSON string of the iss claim, which every token repeats.
	issuer []byte
	// verifier remembers the minted tokens; nil: none does.
	verifier *Verifier
}

// NewMinter returns a minter for the issuer. Its tokens live for ttl, less a random share
// of up to 5 %, so that users who logged in at the same time do not refresh at the same
// time. The ttl must be between 1s and [auth.MaxAccessTokenTTL].
func NewMinter(keys SigningKeys, issuer string, ttl time.Duration) (*Minter, error) {
	if ttl < time.Second || ttl > auth.MaxAccessTokenTTL {
		return nil, fmt.Errorf("token: the lifetime of access tokens must be between 1s and %s, got %s", auth.MaxAccessTokenTTL, ttl)
	}
	return &Minter{keys: keys, ttl: ttl, issuer: appendText(nil, issuer)}, nil
}

// RememberIn makes v remember the tokens that the minter mints from now on, so that the first
// request with a token costs no check of its signature. It must not be called concurrently
// with other methods.
func (m *Minter) RememberIn(v *Verifier) { m.verifier = v }

// Mint returns an access token with the claims of the session row, and its lifetime in
// seconds. It never outlives the session. The algorithm is the app's; empty means
// [DefaultAlg].
func (m *Minter) Mint(s *auth.Session, audiences []string, alg string, now time.Time) (auth.Secret, int, error) {
	return m.MintUntil(s, audiences, alg, now, s.ExpiresAt)
}

// MintUntil is [Minter.Mint] for a token that replaces another one: it does not
// outlive latest either, which is the exp of the other token and lies after now.
func (m *Minter) MintUntil(s *auth.Session, audiences []string, alg string, now, latest time.Time) (auth.Secret, int, error) {
	key, err := m.keys.CurrentSigningKey(cmp.Or(alg, DefaultAlg), now)
	if err != nil {
		return "", 0, err
	}
	issued := now.Truncate(time.Second)
	expires := issued.Add(m.lifetime())
	for _, end := range []time.Time{s.ExpiresAt, latest} {
		if end = end.Truncate(time.Second); end.Before(expires) {
			expires = end
		}
	}
	if !expires.After(issued) {
		// Less than a second is left; round it up.
		expires = issued.Add(time.Second)
	}
	method := jwt.GetSigningMethod(key.Alg)
	if method == nil {
		return "", 0, fmt.Errorf("token: key %s has an unknown algorithm, %q", key.KID, key.Alg)
	}
	signing := m.encode(&key, s, audiences, issued.Unix(), expires.Unix())
	signature, err := method.Sign(signing, key.Key)
	if err != nil {
		return "", 0, fmt.Errorf("token: sign with key %s: %w", key.KID, err)
	}
	signed := signing + "." + base64.RawURLEncoding.EncodeToString(signature)
	if m.verifier != nil {
		m.verifier.remember(signed)
	}
	return auth.Secret(signed), int(expires.Sub(issued) / time.Second), nil
}

// lifetime returns the ttl less a random share of up to 5 %, in whole seconds.
func (m *Minter) lifetime() time.Duration {
	seconds := int64(m.ttl / time.Second)
	if spread := seconds / 20; spread > 0 {
		seconds -= rand.Int64N(spread + 1) //nolint:gosec // not a secret
	}
	return time.Duration(seconds) * time.Second
}
