package main

import (
	"context"
	"time"

	"github.com/yufu-auth/yufu/api/gate"
	"github.com/yufu-auth/yufu/api/oauth"
	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/token"
)

// validation is what tells others whether a token is good, from memory.
type validation struct {
	introspection *oauth.Introspection
	forwardAuth   *gate.ForwardAuth
	apps          *gate.AppCount
}

func newValidation(ctx context.Context, p parts, follower *cutoffs.Follower, keys *web.Guard, attributes oauth.Attributes) (validation, error) {
	// Here no session is looked up, so it matters how old the cutoffs are.
	verifier, err := token.NewVerifier(bearer.Local{
		Issuer: p.issuer, Keys: p.keys.VerificationKey,
		Cutoffs: follower.Set(), Staleness: follower.Age, MaxStaleness: follower.MaxStaleness(),
	})
	if err != nil {
		return validation{}, err
	}
	apps, err := gate.OpenAppCount(ctx, gate.AppCountConfig{
		Store: p.store, MaxStaleness: follower.MaxStaleness(), Clock: time.Now, Log: p.log,
	})
	if err != nil {
		return validation{}, err
	}
	return validation{
		introspection: oauth.NewIntrospection(keys, verifier, p.store, attributes),
		forwardAuth:   gate.NewForwardAuth(verifier, apps, p.verifyCookie),
		apps:          apps,
	}, nil
}

// run keeps it up to date until ctx is done.
func (v *validation) run(ctx context.Context) { v.apps.Run(ctx) }

// close ends what is left running.
func (v *validation) close() { v.introspection.Close() }
