package main

import (
	"context"
	"time"

	"github.com/yufu-auth/yufu/api/gate"
	"github.com/yufu-auth/yufu/api/oauth"
	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/token"
)

// validation tells other programs whether a token is valid, from memory.
type validation struct {
	introspection *oauth.Introspection
	forwardAuth   *gate.ForwardAuth
	apps          *app.Directory
}

// newValidation opens the directory of apps that tokens are checked against.
func newValidation(ctx context.Context, p parts, follower *cutoffs.Follower, verifier *token.Verifier, keys *web.Guard, attributes oauth.Attributes) (validation, error) {
	apps, err := app.OpenDirectory(ctx, app.DirectoryConfig{
		Store: p.store, MaxStaleness: follower.MaxStaleness(), Clock: time.Now, Log: p.log,
		Version: func() (string, time.Time, error) {
			last, err := follower.LastAnswer()
			return last.Apps, last.Asked, err
		},
	})
	if err != nil {
		return validation{}, err
	}
	return validation{
		introspection: oauth.NewIntrospection(keys, verifier, knownApps{apps, follower.Answering}, p.store, attributes),
		forwardAuth:   gate.NewForwardAuth(verifier, apps, p.verifyCookie),
		apps:          apps,
	}, nil
}

// knownApps implements [oauth.Apps].
type knownApps struct {
	*app.Directory
	answering func() bool
}

// Answering implements [oauth.Apps].
func (k knownApps) Answering() bool { return k.answering() }

// run keeps the directory up to date until ctx is done.
func (v *validation) run(ctx context.Context) { v.apps.Run(ctx) }

// close ends the background work of introspection.
func (v *validation) close() { v.introspection.Close() }
