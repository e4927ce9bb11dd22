package main

import (
	"context"
	"math"
	"time"

	"github.com/yufu-auth/yufu/api/gate"
	"github.com/yufu-auth/yufu/api/oauth"
	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/token"
)

// validation is what tells others whether a token is good, from memory.
type validation struct {
	introspection *oauth.Introspection
	forwardAuth   *gate.ForwardAuth
	apps          *app.Directory
}

// newVerifier returns what says here whether an access token is good. It goes by
// cutoffs that are not too old also where the session is looked up besides: the
// row says nothing of a key that leaked, and whoever has that may write what the
// row wants to see.
func newVerifier(p parts) (*token.Verifier, error) {
	return token.NewVerifier(bearer.Local{
		Issuer: p.issuer, Keys: p.keys.VerificationKey,
		Cutoffs: p.follower.Set(), Staleness: p.staleness, MaxStaleness: p.follower.MaxStaleness(),
		Clock: p.follower.Latest,
	})
}

// staleness returns how old the knowledge of revocations is. It is out of date as long
// as the database lacks some that no replica remembers.
func (p parts) staleness() time.Duration {
	if p.restorer != nil && p.restorer.Check() != nil {
		return math.MaxInt64
	}
	return p.follower.Age()
}

// publishedKeys are the keys in the JWK set: none as long as the database may have
// forgotten that one of them leaked.
type publishedKeys struct{ parts }

// JWKS implements [oauth.KeySet].
func (p publishedKeys) JWKS() []byte {
	if p.restorer.Check() != nil {
		return nil
	}
	return p.keys.JWKS()
}

func newValidation(ctx context.Context, p parts, verifier *token.Verifier, maxStaleness time.Duration, keys *web.Guard, attributes oauth.Attributes) (validation, error) {
	apps, err := app.OpenDirectory(ctx, app.DirectoryConfig{
		Store: p.store, MaxStaleness: maxStaleness, Clock: time.Now, Log: p.log,
	})
	if err != nil {
		return validation{}, err
	}
	return validation{
		introspection: oauth.NewIntrospection(keys, verifier, apps, p.store, attributes),
		forwardAuth:   gate.NewForwardAuth(verifier, apps, p.verifyCookie),
		apps:          apps,
	}, nil
}

// run keeps it up to date until ctx is done.
func (v *validation) run(ctx context.Context) { v.apps.Run(ctx) }

// close ends what is left running.
func (v *validation) close() { v.introspection.Close() }
