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
}

// openApps opens the directory of apps, from which log-ins and validations take them.
func openApps(ctx context.Context, p parts, follower *cutoffs.Follower) (knownApps, error) {
	apps, err := app.OpenDirectory(ctx, app.DirectoryConfig{
		Store: p.store, MaxStaleness: follower.MaxStaleness(), Clock: time.Now, Log: p.log,
		Version: func() (string, time.Time, error) {
			last, err := follower.LastAnswer()
			return last.Apps, last.Asked, err
		},
	})
	return knownApps{apps, follower.Answering}, err
}

func newValidation(p parts, apps knownApps, verifier *token.Verifier, keys *web.Guard, attributes oauth.Attributes) validation {
	return validation{
		introspection: oauth.NewIntrospection(keys, verifier, apps, p.store, attributes),
		forwardAuth:   gate.NewForwardAuth(verifier, apps, p.verifyCookie),
	}
}

// knownApps implements [oauth.Apps] and [session.Apps].
type knownApps struct {
	*app.Directory
	answering func() bool
}

// Answering reports whether the database answers.
func (k knownApps) Answering() bool { return k.answering() }

// close ends the background work of introspection.
func (v *validation) close() { v.introspection.Close() }
