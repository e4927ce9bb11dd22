package main

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/health"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/httpd"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/replicas"
	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/telemetry"
	"github.com/yufu-auth/yufu/pkg/token"
)

// service is the assembled service.
type service struct {
	parts
	metrics *telemetry.Metrics
	// follower has the revocations and the time by the database's clock. All times in the
	// store are by that clock. Intervals are measured with time.Now, because only that has a
	// monotonic reading.
	follower *cutoffs.Follower
	sealedKeys
	// keeper rotates and retires the keys.
	keeper *keyring.Keeper
	// restorer writes the revocations that this replica remembers to a database that lost its
	// latest commits.
	restorer *session.Restorer

	apps       knownApps
	validation validation
	checker    *health.Checker
	member     *replicas.Member
	endpoints  []httpd.Endpoint
	// closers release the resources of the parts. They run in reverse order.
	closers []func()
}

// onClose registers a function that [service.close] calls.
func (s *service) onClose(f func()) { s.closers = append(s.closers, f) }

// close releases the resources of the service, except the store and the listeners, which the
// caller closes.
func (s *service) close() {
	for _, f := range slices.Backward(s.closers) {
		f()
	}
}

// checkMayIssue returns why this replica must not issue tokens now, or nil.
func (s *service) checkMayIssue() error { return cmp.Or(s.follower.Check(), s.restorer.Check()) }

// newVerifier returns the verifier that every endpoint uses. It fails on stale cutoffs even
// for endpoints that also read the session row: the row does not show that a signing key
// leaked, and the holder of that key can sign a token that agrees with the row.
func (s *service) newVerifier() (*token.Verifier, error) {
	return token.NewVerifier(bearer.Local{
		Issuer: s.issuer, Keys: s.keys.VerificationKey,
		Cutoffs: s.follower.Set(), Staleness: s.staleness, MaxStaleness: s.follower.MaxStaleness(),
		Clock: s.follower.Latest, TokenMemory: int(s.limits.TokenMemory), // 1 GiB at most
	})
}

// staleness returns the age of the revocation data. The data is out of date while the
// database may lack revocations that no replica remembers.
func (s *service) staleness() time.Duration {
	if s.restorer != nil && s.restorer.Check() != nil {
		return math.MaxInt64
	}
	return s.follower.Age()
}

// publishedKeys are the keys in the JWK set. There is no set while the database may have lost
// the fact that one of them leaked.
type publishedKeys struct{ *service }

// JWKS implements [oauth.KeySet].
func (s publishedKeys) JWKS() []byte {
	if s.restorer.Check() != nil {
		return nil
	}
	return s.keys.JWKS()
}
