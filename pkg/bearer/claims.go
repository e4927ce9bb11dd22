package bearer

import (
	"errors"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
)

// Claims are the claims of a verified access token.
type Claims struct {
	// Issuer is the token's issuer (iss).
	Issuer string
	// Subject is the identity's uuid (sub). It names a user; it is not a credential.
	Subject string
	// Audience holds the token's audiences (aud): the issuer, and the audiences of the
	// app.
	Audience []string
	// App is the appid of the mini-program (client_id).
	App string
	// IssuedAt and ExpiresAt are the token's times, in whole seconds (iat, exp).
	IssuedAt  time.Time
	ExpiresAt time.Time
	// ID is unique among tokens (jti).
	ID string
	// Session is the log-in that the token belongs to (sid).
	Session string
	// Ver and Epoch are what cutoffs of the session and of the app compare.
	Ver   int64
	Epoch int64
	// Bound reports whether the identity is bound to a person, and Person is
	// the person's id; empty when unbound.
	Bound  bool
	Person string
	// ExternalID is the business's own id of the person, as it was when the token was
	// issued. It is empty when unbound, and if the app's policy keeps it out of tokens.
	ExternalID string
	// KeyID names the key that signed the token (kid).
	KeyID string
}

// maxLifetime is the maximum lifetime of an access token. Cutoffs are kept a little
// longer; a token that lived longer could outlive its cutoff.
const maxLifetime = time.Hour

// maxSkew is how far in the future a token may have been issued, by our clock.
const maxSkew = time.Minute

// token returns the claims that cutoffs look at.
func (c *Claims) token() cutoff.Token {
	return cutoff.Token{Session: c.Session, Ver: c.Ver, App: c.App, Epoch: c.Epoch, KID: c.KeyID}
}

// copy returns claims that the caller may change.
func (c *Claims) copy() *Claims {
	d := *c
	d.Audience = slices.Clone(c.Audience)
	return &d
}

// payload holds the claims as golang-jwt decodes them. The embedded nil makes it a
// jwt.Claims. golang-jwt validates no claim here, because it would report a token as
// expired that is also wrong in other ways.
type payload struct {
	jwt.Claims
	claims      Claims
	notBefore   time.Time
	constrained bool
	seen        claimSet
}

// claimSet has a bit for each required claim.
type claimSet uint16

const (
	seenIssuer claimSet = 1 << iota
	seenSubject
	seenAudience
	seenApp
	seenIssuedAt
	seenExpiresAt
	seenID
	seenSession
	seenVer
	seenEpoch
	seenBound
	seenAll claimSet = 1<<iota - 1
)

// UnmarshalJSON reads the claims, strictly. The JSON is well-formed.
func (p *payload) UnmarshalJSON(data []byte) error {
	if !members(data, p.member) {
		return errors.New("bearer: invalid claims")
	}
	return nil
}

func (p *payload) member(name string, value []byte) (ok bool) {
	c := &p.claims
	switch name {
	case "iss":
		p.seen |= seenIssuer
		c.Issuer, ok = textOf(value)
	case "sub":
		p.seen |= seenSubject
		c.Subject, ok = uuidOf(value)
	case "aud":
		p.seen |= seenAudience
		c.Audience, ok = audienceOf(value)
	case "client_id":
		p.seen |= seenApp
		c.App, ok = nameOf(value)
	case "iat":
		p.seen |= seenIssuedAt
		c.IssuedAt, ok = timeOf(value)
	case "exp":
		p.seen |= seenExpiresAt
		c.ExpiresAt, ok = timeOf(value)
	case "nbf":
		p.notBefore, ok = timeOf(value)
	case "jti":
		p.seen |= seenID
		c.ID, ok = nameOf(value)
	case "sid":
		p.seen |= seenSession
		c.Session, ok = uuidOf(value)
	case "ver":
		p.seen |= seenVer
		c.Ver, ok = integerOf(value)
		ok = ok && c.Ver >= 0
	case "epoch":
		p.seen |= seenEpoch
		c.Epoch, ok = integerOf(value)
		ok = ok && c.Epoch >= 0
	case "bound":
		p.seen |= seenBound
		c.Bound, ok = boolOf(value)
	case "person":
		c.Person, ok = uuidOf(value)
	case "external_id":
		c.ExternalID, ok = nameOf(value)
	case "cnf":
		p.constrained, ok = true, true
	default:
		ok = strict(value) // a claim of a newer service
	}
	return ok
}

// check returns the reason why these are not the claims of an access token of the issuer
// for the audience, or nil. It ignores the expiry.
func (p *payload) check(issuer, audience string, now time.Time) error {
	c := &p.claims
	switch {
	case p.seen != seenAll:
		return errClaims
	case c.Issuer != issuer:
		return errIssuer
	case !slices.Contains(c.Audience, audience):
		return errAudience
	case c.Bound != (c.Person != ""), !c.Bound && c.ExternalID != "":
		return errBound
	case p.constrained:
		return errConstrained
	case !c.ExpiresAt.After(c.IssuedAt), c.ExpiresAt.Sub(c.IssuedAt) > maxLifetime:
		return errLifetime
	case c.IssuedAt.After(now.Add(maxSkew)), p.notBefore.After(now):
		return errFuture
	}
	return nil
}

// nameOf returns a non-empty string.
func nameOf(value []byte) (string, bool) {
	s, ok := textOf(value)
	return s, ok && s != ""
}

// uuidOf returns a UUID other than the nil UUID, in the spelling that the service uses. A
// cutoff would take two spellings of one session for two sessions.
func uuidOf(value []byte) (string, bool) {
	s, ok := textOf(value)
	if !ok || len(s) != 36 {
		return "", false
	}
	zero := true
	for i := range len(s) {
		switch c := s[i]; i {
		case 8, 13, 18, 23:
			if c != '-' {
				return "", false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return "", false
			}
			zero = zero && c == '0'
		}
	}
	return s, !zero
}

// audienceOf returns the strings of an array, or a single string.
func audienceOf(value []byte) (all []string, ok bool) {
	if s, ok := textOf(value); ok {
		return []string{s}, true
	}
	ok = elements(value, func(element []byte) bool {
		s, ok := textOf(element)
		all = append(all, s)
		return ok
	})
	return all, ok
}

// timeOf returns a time given in whole seconds, up to the end of the year 9999.
func timeOf(value []byte) (time.Time, bool) {
	n, ok := integerOf(value)
	if !ok || n <= 0 || n > 253402300799 {
		return time.Time{}, false
	}
	return time.Unix(n, 0).UTC(), true
}
