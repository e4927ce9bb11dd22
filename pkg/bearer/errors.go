package bearer

import (
	"errors"
	"fmt"
)

// The errors of [Verifier.Verify]. Every error wraps exactly one of these, for errors.Is.
// The rest of the text gives the reason, for a log. It never contains the token.
var (
	// ErrInvalid: the token is not an access token of this issuer for this audience.
	ErrInvalid = errors.New("bearer: invalid token")
	// ErrExpired: the token was valid in every other way. Its holder should refresh.
	ErrExpired = errors.New("bearer: expired token")
	// ErrRevoked: the token is genuine, and a cutoff hits it: its session has ended or its
	// binding has changed, its app was revoked, or its key was retired.
	ErrRevoked = errors.New("bearer: revoked token")
	// ErrStale: the token seems valid, but the data about revocations or keys is too old
	// to decide. The client is not at fault: answer 503 so that it tries again.
	ErrStale = errors.New("bearer: stale revocation data")
	// ErrMisconfigured: this verifier cannot accept tokens until an operator acts. The
	// text says what to do. The client is not at fault.
	ErrMisconfigured = errors.New("bearer: misconfigured")
)

// ErrOtherApp is the [ErrInvalid] of a token for another app: an app outside of
// [Config].Apps or, without those and without an audience, any app but the one to which
// the service key is pinned.
var ErrOtherApp = fmt.Errorf("%w: the app is not accepted by this back end", ErrInvalid)

// ClaimsOf returns the claims of a token that [Verifier.Verify] refused with err although
// its signature is valid: the token is expired, revoked, or another app's, or the data is
// stale. Use the claims only for a log; they must not admit a request.
func ClaimsOf(err error) (*Claims, bool) {
	var g *genuineError
	if !errors.As(err, &g) {
		return nil, false
	}
	return g.claims.copy(), true
}

// genuineError is the refusal of a token with a valid signature.
type genuineError struct {
	error
	claims *Claims
}

func (g *genuineError) Unwrap() error { return g.error }

// The reasons. They are allocated once, so that refusing junk is cheap.
var (
	errTooLong     = fmt.Errorf("%w: too long", ErrInvalid)
	errMalformed   = fmt.Errorf("%w: not a JWT", ErrInvalid)
	errHeader      = fmt.Errorf("%w: the header is not strict JSON", ErrInvalid)
	errAlgorithm   = fmt.Errorf("%w: the algorithm is not allowed", ErrInvalid)
	errType        = fmt.Errorf("%w: typ is not at+jwt", ErrInvalid)
	errCritical    = fmt.Errorf("%w: critical extensions are not supported", ErrInvalid)
	errForeignKey  = fmt.Errorf("%w: header contains a key (jwk, jku, x5c, x5u)", ErrInvalid)
	errNoKey       = fmt.Errorf("%w: the header has no kid", ErrInvalid)
	errUnknownKey  = fmt.Errorf("%w: unknown signing key", ErrInvalid)
	errKeyAlg      = fmt.Errorf("%w: the key is for another algorithm", ErrInvalid)
	errSignature   = fmt.Errorf("%w: the signature is wrong", ErrInvalid)
	errClaims      = fmt.Errorf("%w: a claim is missing or invalid", ErrInvalid)
	errIssuer      = fmt.Errorf("%w: issued by another issuer", ErrInvalid)
	errAudience    = fmt.Errorf("%w: for another audience", ErrInvalid)
	errBound       = fmt.Errorf("%w: bound and person contradict each other", ErrInvalid)
	errConstrained = fmt.Errorf("%w: bound to a proof of possession (cnf), which is not supported", ErrInvalid)
	errLifetime    = fmt.Errorf("%w: the lifetime is not positive or exceeds one hour", ErrInvalid)
	errFuture      = fmt.Errorf("%w: issued in the future; check the clocks", ErrInvalid)

	errNoApp = fmt.Errorf("%w: the service key is not pinned to an app; set Audience or Apps, or pin it with yufu service-key pin", ErrMisconfigured)

	errNoKeys    = fmt.Errorf("%w: the issuer's keys are not loaded yet", ErrStale)
	errKeysStale = fmt.Errorf("%w: unknown signing key, and the issuer's keys cannot be fetched", ErrStale)
)
