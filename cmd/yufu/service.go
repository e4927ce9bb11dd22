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
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/telemetry"
	"github.com/yufu-auth/yufu/pkg/token"
)

// service is the assembled service.
type service struct {
	parts
	metrics *telemetry.Metrics
	// follower knows the revocations and the time by the database's clock. All times
	// that the store keeps are by that clock. Intervals are measured with time.Now:
	// only that has a monotonic reading.
	follower *cutoffs.Follower
	keys     *keyring.Ring
	facts    *person.FactKey
	// keeper changes the keys.
	keeper *keyring.Keeper
	// restorer restores what this replica remembers to a database that lost its latest
	// commits.
	restorer *session.Restorer

	validation validation
	checker    *health.Checker
	member     *replicas.Member
	endpoints  []httpd.Endpoint
	// closers release what the parts hold, the last first.
	closers []func()
}

// onClose registers what [service.close] calls.
func (s *service) onClose(f func()) { s.closers = append(s.closers, f) }

// close releases what the service holds. The store and the listeners are its caller's.
func (s *service) close() {
	for _, f := range slices.Backward(s.closers) {
		f()
	}
}

// checkMayIssue returns why this replica must not issue tokens now, or nil.
func (s *service) checkMayIssue() error { return cmp.Or(s.follower.Check(), s.restorer.Check()) }

// newVerifier returns the verifier of access tokens. It needs fresh cutoffs also where the
// session is looked up besides: the session's row does not know that a key leaked, and a
// thief of that key can sign a token that agrees with the row.
func (s *service) newVerifier() (*token.Verifier, error) {
	return token.NewVerifier(bearer.Local{
		Issuer: s.issuer, Keys: s.keys.VerificationKey,
		Cutoffs: s.follower.Set(), Staleness: s.staleness, MaxStaleness: s.follower.MaxStaleness(),
		Clock: s.follower.Latest,
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

// publishedKeys are the keys in the JWK set. There are none while the database may have
// lost the fact that one of them leaked.
type publishedKeys struct{ *service }

// JWKS implements [oauth.KeySet].
func (s publishedKeys) JWKS() []byte {
	if s.restorer.Check() != nil {
		return nil
	}
	return s.keys.JWKS()
}
