package token

import (
	"cmp"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// AccessType is the JWT header typ of access tokens (RFC 9068 §2.1).
const AccessType = "at+jwt"

// maxAccessLen bounds what is parsed as an access token, in characters.
const maxAccessLen = 8 << 10

// Claims are those of an access token.
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

// SigningKeys hands out the key that new access tokens are signed with.
type SigningKeys interface {
	// CurrentSigningKey returns the key of the algorithm at now. Its Alg may be
	// another one, as long as no key of the algorithm may sign yet.
	CurrentSigningKey(alg string, now time.Time) (SigningKey, error)
}

// VerificationKeys finds the keys that access tokens may be signed by.
type VerificationKeys interface {
	// VerificationKey returns a published key with its algorithm, or false. It
	// does no I/O.
	VerificationKey(kid string) (key crypto.PublicKey, alg string, ok bool)
}

// DefaultAlg is the JWS algorithm of apps that choose none.
const DefaultAlg = auth.DefaultSigningAlg

// Minter mints access tokens. It is safe for concurrent use.
type Minter struct {
	keys   SigningKeys
	issuer string
	ttl    time.Duration
}

// NewMinter returns a minter for the issuer, whose tokens live ttl, jittered
// down by up to 5 % so that a crowd that logged in together does not refresh
// together. The ttl is at least a second and at most [auth.MaxAccessTokenTTL].
func NewMinter(keys SigningKeys, issuer string, ttl time.Duration) (*Minter, error) {
	if ttl < time.Second || ttl > auth.MaxAccessTokenTTL {
		return nil, fmt.Errorf("token: access tokens live 1s to %s, not %s", auth.MaxAccessTokenTTL, ttl)
	}
	return &Minter{keys: keys, issuer: issuer, ttl: ttl}, nil
}

// Mint returns an access token that says what the session row says, and how
// many seconds it lives. It never outlives the session. The algorithm is the
// app's; empty is [DefaultAlg].
func (m *Minter) Mint(s *auth.Session, audiences []string, alg string, now time.Time) (auth.Secret, int, error) {
	key, err := m.keys.CurrentSigningKey(cmp.Or(alg, DefaultAlg), now)
	if err != nil {
		return "", 0, err
	}
	issued := now.Truncate(time.Second)
	expires := issued.Add(m.lifetime())
	if end := s.ExpiresAt.Truncate(time.Second); end.Before(expires) {
		expires = end
	}
	if !expires.After(issued) {
		// Less than a second is left; round it up.
		expires = issued.Add(time.Second)
	}
	c := &Claims{
		Issuer:    m.issuer,
		Subject:   s.Identity,
		Audience:  append(jwt.ClaimStrings{m.issuer}, audiences...),
		ClientID:  s.AppID,
		IssuedAt:  jwt.NewNumericDate(issued),
		ExpiresAt: jwt.NewNumericDate(expires),
		ID:        rand.Text(),
		Session:   s.ID,
		Ver:       s.Ver,
		Epoch:     s.Epoch,
		Bound:     s.Bound(),
	}
	if s.Person != nil {
		c.Person = &s.Person.ID
	}
	t := jwt.NewWithClaims(jwt.GetSigningMethod(key.Alg), c)
	t.Header["typ"] = AccessType
	t.Header["kid"] = key.KID
	signed, err := t.SignedString(key.Key)
	if err != nil {
		return "", 0, fmt.Errorf("token: sign with key %s: %w", key.KID, err)
	}
	return auth.Secret(signed), int(expires.Sub(issued) / time.Second), nil
}

// lifetime returns the ttl less a random share of up to 5 %, in whole seconds.
func (m *Minter) lifetime() time.Duration {
	seconds := int64(m.ttl / time.Second)
	if spread := seconds / 20; spread > 0 {
		n, err := rand.Int(rand.Reader, big.NewInt(spread+1))
		if err == nil {
			seconds -= n.Int64()
		}
	}
	return time.Duration(seconds) * time.Second
}

// Verifier verifies our own access tokens, offline: signature, type, issuer,
// audience and times. Whether the session is still live is the store's word.
type Verifier struct {
	keys   VerificationKeys
	issuer string
	clock  func() time.Time
	parser *jwt.Parser
}

// NewVerifier returns a verifier for the issuer, which must be among a token's
// audiences. The clock is asked at each call.
func NewVerifier(keys VerificationKeys, issuer string, clock func() time.Time) *Verifier {
	return &Verifier{
		keys:   keys,
		issuer: issuer,
		clock:  clock,
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{"ES256", "EdDSA", "RS256"}),
			jwt.WithStrictDecoding(),
			// Verify checks them: the library would report a token as expired
			// that is wrong in other ways too.
			jwt.WithoutClaimsValidation(),
		),
	}
}

// Verify returns the claims of a token that is ours and has not expired.
//
// Errors: [auth.TokenExpired] for a token that is ours and has expired,
// [auth.TokenInvalid] for anything else.
func (v *Verifier) Verify(s string) (*Claims, error) {
	c, err := v.VerifyExpired(s)
	if err != nil {
		return nil, err
	}
	// Last, because "expired" asks the client to refresh: it is said of tokens
	// alone that were good once.
	if !v.clock().Before(c.ExpiresAt.Time) {
		return nil, &auth.Error{Code: auth.TokenExpired}
	}
	return c, nil
}

// VerifyExpired returns the claims of a token that is ours, expired or not: it
// tells which session a token was of, and lets nobody in.
//
// Errors: [auth.TokenInvalid].
func (v *Verifier) VerifyExpired(s string) (*Claims, error) {
	// The base64 decoder skips line breaks, strict or not; a token has none.
	if len(s) > maxAccessLen || strings.ContainsAny(s, "\r\n") {
		return nil, auth.TokenInvalid
	}
	var c Claims
	if _, err := v.parser.ParseWithClaims(s, &c, v.key); err != nil {
		return nil, &auth.Error{Code: auth.TokenInvalid, Err: err}
	}
	if err := c.check(v.issuer); err != nil {
		return nil, &auth.Error{Code: auth.TokenInvalid, Err: err}
	}
	return &c, nil
}

// check says why claims that our key signed are not those of an access token
// of this issuer, whatever the time, or nil.
func (c *Claims) check(issuer string) error {
	switch {
	case c.Issuer != issuer:
		return errors.New("token: another issuer")
	case !slices.Contains(c.Audience, issuer):
		return errors.New("token: not for this audience")
	case c.IssuedAt == nil, c.ExpiresAt == nil, c.ID == "", c.ClientID == "", c.Subject == uuid.Nil, c.Session == uuid.Nil:
		return errors.New("token: a claim is missing")
	case c.Bound != (c.Person != nil):
		return errors.New("token: bound and person contradict each other")
	}
	return nil
}

// key finds the key that a token names, after the checks of its header that
// the library leaves to us: the type, no critical extensions, and the key's
// own algorithm.
func (v *Verifier) key(t *jwt.Token) (any, error) {
	typ, _ := t.Header["typ"].(string)
	if !strings.EqualFold(strings.TrimPrefix(strings.ToLower(typ), "application/"), AccessType) {
		return nil, errors.New("token: typ is not at+jwt")
	}
	if _, ok := t.Header["crit"]; ok {
		return nil, errors.New("token: critical header extensions are not supported")
	}
	kid, _ := t.Header["kid"].(string)
	key, alg, ok := v.keys.VerificationKey(kid)
	if !ok {
		return nil, errors.New("token: unknown key")
	}
	if t.Method.Alg() != alg {
		return nil, errors.New("token: the key is for another algorithm")
	}
	return key, nil
}
