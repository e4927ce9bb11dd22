package bearer

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
)

// accessType is the JWT header typ of access tokens (RFC 9068 §2.1).
const accessType = "at+jwt"

// maxToken is the maximum size of a token in bytes: more than the longest one of the
// service, with sixteen audiences and an external_id of 255 characters.
const maxToken = 12 << 10

// maxKeyID bounds a kid, in bytes.
const maxKeyID = 128

// algorithms are the supported algorithms. The configuration can only restrict them.
var algorithms = []string{"ES256", "EdDSA", "RS256"}

func newParser(algorithms []string) *jwt.Parser {
	return jwt.NewParser(
		jwt.WithValidMethods(algorithms),
		jwt.WithStrictDecoding(),
		jwt.WithoutClaimsValidation(), // payload.check does it
	)
}

// parse verifies a token except for its expiry, cutoffs and the freshness of our data.
// golang-jwt decodes it and checks the algorithm and the signature. The checks that
// golang-jwt leaves to its callers come before the signature, which costs most. The
// signature of a trusted token is not checked.
func (v *Verifier) parse(ctx context.Context, token string, now time.Time, trusted bool) (*entry, error) {
	if len(token) > maxToken {
		return nil, errTooLong
	}
	// The base64 decoder skips line breaks, strict or not; a token has none.
	if strings.IndexByte(token, '\n') >= 0 || strings.IndexByte(token, '\r') >= 0 {
		return nil, errMalformed
	}
	var p payload
	var key verificationKey
	var refusal error
	check := func(t *jwt.Token) (any, error) {
		if p.claims.KeyID, refusal = checkHeader(t.Raw); refusal != nil {
			return nil, refusal
		}
		if refusal = p.check(v.issuer, v.audience, now); refusal != nil {
			return nil, refusal
		}
		if key, refusal = v.keyOf(ctx, &p.claims, now); refusal != nil {
			return nil, refusal
		}
		if t.Method.Alg() != key.alg {
			refusal = errKeyAlg
			return nil, refusal
		}
		return key.key, nil
	}
	var err error
	if trusted {
		var t *jwt.Token
		if t, _, err = v.parser.ParseUnverified(token, &p); err == nil {
			_, err = check(t)
		}
	} else {
		_, err = v.parser.ParseWithClaims(token, &p, check)
	}
	switch {
	case err == nil:
		return &entry{claims: p.claims, key: key}, nil
	case refusal != nil:
		return nil, refusal
	case errors.Is(err, jwt.ErrTokenMalformed):
		return nil, errMalformed
	case key.key == nil: // golang-jwt refused the algorithm
		return nil, errAlgorithm
	default:
		return nil, errSignature
	}
}

// checkHeader checks the header of a token that golang-jwt has decoded, and
// returns its kid.
func checkHeader(token string) (kid string, err error) {
	segment, _, _ := strings.Cut(token, ".")
	raw, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil {
		return "", errMalformed
	}
	var typ string
	critical, foreign := false, false
	ok := members(raw, func(name string, value []byte) (ok bool) {
		switch name {
		case "typ":
			typ, ok = textOf(value)
		case "kid":
			kid, ok = textOf(value)
		case "alg":
			_, ok = textOf(value)
		case "crit", "b64":
			// RFC 7797 §6 requires b64 to be critical, so that one payload cannot be
			// taken for another; some verifiers honour it even if it is not.
			critical, ok = true, true
		case "jwk", "jku", "x5c", "x5u":
			// A token must not choose where its key comes from.
			foreign, ok = true, true
		default:
			ok = strict(value)
		}
		return ok
	})
	switch {
	case !ok:
		return "", errHeader
	case critical:
		return "", errCritical
	case foreign:
		return "", errForeignKey
	case !strings.EqualFold(typ, accessType) && !strings.EqualFold(typ, "application/"+accessType):
		return "", errType
	case kid == "" || len(kid) > maxKeyID:
		return "", errNoKey
	}
	return kid, nil
}

// keyOf finds the key that the token names. For an unknown key it asks the issuer, if the
// token could otherwise be valid.
func (v *Verifier) keyOf(ctx context.Context, c *Claims, now time.Time) (verificationKey, error) {
	if key, ok := v.keys.find(c.KeyID); ok {
		return key, nil
	}
	if !now.Before(c.ExpiresAt) || v.cutoffs.Hits(cutoff.Token{KID: c.KeyID}) {
		return verificationKey{}, errUnknownKey
	}
	return v.keys.await(ctx, c.KeyID)
}
