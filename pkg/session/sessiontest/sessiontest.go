// Package sessiontest assembles a session service for tests: real tokens, keys
// and sealing, the real WeChat client against a simulated WeChat over HTTP, the
// caller's database, and a clock that the test moves.
//
// It owns the assembly, two registered apps, [Faults], which compares such a service
// with a model while everything around it fails, and [Clocks], which checks that no
// clock ends a session. It does not own the database, which the test opens, or any rule
// of sessions. It is only for tests: its master key and secrets are public.
package sessiontest

import (
	"bytes"
	"context"
	"log/slog"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/db"
	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/platform"
	"github.com/yufu-auth/yufu/pkg/platform/wechat"
	"github.com/yufu-auth/yufu/pkg/platform/wechatsim"
	"github.com/yufu-auth/yufu/pkg/seal"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/shard"
	"github.com/yufu-auth/yufu/pkg/token"
)

// Issuer is the iss claim of the tokens.
const Issuer = "https://auth.example.com"

// AccessTTL is the lifetime of access tokens, before the jitter.
const AccessTTL = 10 * time.Minute

// The app that [Fixture.Login] logs in to, with an audience beside the issuer.
const (
	AppID     = "wxdevelopment0001"
	AppSecret = "public test secret"
	Audience  = "https://api.example.com"
)

// Another app, without its own audience.
const (
	OtherAppID     = "wxdevelopment0002"
	OtherAppSecret = "another public test secret"
)

// MaxStaleness is the setting of [Fixture.Revoker].
const MaxStaleness = 30 * time.Second

// Fixture is an assembled service with its parts.
type Fixture struct {
	*Replica
	Store     db.Store
	Simulator *wechatsim.Simulator
	Clock     *Clock
	Lifetimes session.Lifetimes
	Sealer    *seal.Ring
	Shards    *shard.Key

	platform platform.Provider
	tb       testing.TB
}

// Replica is one process of the service: its memory, and the services that use it.
type Replica struct {
	// DB is the database as this process uses it: it knows the cutoffs that it
	// writes.
	DB      db.Store
	Service *session.Service
	// Config is the configuration of Service, for another service over the same parts.
	Config   session.Config
	Revoker  *session.Revoker
	Keys     *keyring.Ring
	Keeper   *keyring.Keeper
	Minter   *token.Minter
	Verifier *token.Verifier
	Codec    *token.RefreshCodec
	// Cutoffs knows what was revoked, as of the last call of [Replica.CatchUp].
	Cutoffs  *cutoffs.Follower
	Restorer *session.Restorer
	// CaughtUp counts the calls of [Replica.CatchUp].
	CaughtUp atomic.Int64
}

// New assembles a service over an empty, migrated database, with both apps
// registered. It lives until the test ends. Lifetimes that are zero are
// [session.DefaultLifetimes]; the limit of sessions is
// [session.DefaultMaxSessions].
func New(tb testing.TB, store db.Store, lifetimes session.Lifetimes) *Fixture {
	tb.Helper()
	return assemble(tb, store, lifetimes, 0, func(sim *wechatsim.Simulator) platform.Provider {
		srv := httptest.NewServer(sim.Handler())
		tb.Cleanup(srv.Close)
		// These tests do not test timeouts.
		weChat := must(wechat.New(wechat.Config{BaseURL: srv.URL, Timeout: time.Minute}))(tb)
		tb.Cleanup(weChat.CloseIdleConnections)
		return weChat
	})
}

// assemble is [New] with another transport to the simulator, which remembers this number
// of calls.
func assemble(tb testing.TB, store db.Store, lifetimes session.Lifetimes, maxCalls int, connect func(*wechatsim.Simulator) platform.Provider) *Fixture {
	tb.Helper()
	if lifetimes == (session.Lifetimes{}) {
		lifetimes = session.DefaultLifetimes
	}
	f := &Fixture{
		Store:     store,
		Clock:     &Clock{now: time.Date(2026, 7, 1, 12, 0, 0, 123456000, time.UTC)},
		Lifetimes: lifetimes,
		tb:        tb,
	}
	f.Simulator = wechatsim.New(wechatsim.Config{
		Apps: map[string]string{AppID: AppSecret, OtherAppID: OtherAppSecret},
		Now:  f.Clock.Now,

		MaxCalls: maxCalls,
	})
	f.Sealer = must(seal.NewRing(bytes.Repeat([]byte{7}, seal.KeySize)))(tb)
	f.Shards = shard.NewKey()
	f.platform = connect(f.Simulator)
	f.Replica = f.NewReplica()
	f.AddApp(AppID, AppSecret, Audience)
	f.AddApp(OtherAppID, OtherAppSecret)
	return f
}

// NewReplica starts another process of the service on the same database. It remembers
// only what the database has now.
func (f *Fixture) NewReplica() *Replica {
	f.tb.Helper()
	ctx, log := f.tb.Context(), slog.New(slog.DiscardHandler)
	r := &Replica{}
	r.Cutoffs = must(cutoffs.Open(ctx, cutoffs.Config{
		Store: f.Store, MaxStaleness: MaxStaleness, Clock: f.Clock.Now, Log: log,
	}))(f.tb)
	r.DB = db.ApplyCutoffs(f.Store, r.CatchUp)
	r.Keys = must(keyring.Open(ctx, r.DB, f.Sealer, f.Clock.Now()))(f.tb)
	r.Keys.SetCutoffCheck(r.Cutoffs.HitsKey)
	r.Codec = token.NewRefreshCodec(r.Keys)
	r.Minter = must(token.NewMinter(r.Keys, Issuer, AccessTTL))(f.tb)
	r.Keeper = must(keyring.NewKeeper(keyring.KeeperConfig{
		Ring: r.Keys, Policy: keyring.DefaultPolicy,
		Clock:         f.Clock.Now,
		DatabaseClock: func(context.Context) (time.Time, error) { return f.Clock.Now(), nil },
	}))(f.tb)
	r.Restorer = must(session.NewRestorer(ctx, session.RestorerConfig{
		Store: r.DB, Memory: r.Cutoffs, Keys: r.Keeper.CatchUp, Clock: f.Clock.Now, Log: log,
	}))(f.tb)
	r.Verifier = must(token.NewVerifier(bearer.Local{
		Issuer: Issuer, Keys: r.Keys.VerificationKey, Cutoffs: r.Cutoffs.Set(), Clock: f.Clock.Now,
	}))(f.tb)
	r.Config = session.Config{
		Store:       r.DB,
		Platforms:   map[string]platform.Provider{auth.PlatformWeChat: f.platform},
		Sealer:      f.Sealer,
		Shards:      f.Shards,
		Minter:      r.Minter,
		Verifier:    r.Verifier,
		Codec:       r.Codec,
		Lifetimes:   f.Lifetimes,
		MaxSessions: session.DefaultMaxSessions,
		Clock:       f.Clock.Now,
		Restorer:    r.Restorer,
	}
	r.Service = must(session.NewService(r.Config))(f.tb)
	r.Revoker = session.NewRevoker(session.RevokerConfig{
		Store:          r.DB,
		Verifier:       r.Verifier,
		Codec:          r.Codec,
		MaxStaleness:   MaxStaleness,
		AccessTokenTTL: AccessTTL,
		Clock:          f.Clock.Now,
	})
	return r
}

// CatchUp reads new cutoffs from the database. [Replica.DB] calls it, as in the
// program.
func (r *Replica) CatchUp(ctx context.Context) {
	r.CaughtUp.Add(1)
	_ = r.Cutoffs.CatchUp(ctx)
}

// AddApp registers an app of the simulated WeChat.
func (f *Fixture) AddApp(appID, secret string, audiences ...string) {
	f.tb.Helper()
	sealed := must(f.Sealer.Seal([]byte(secret), app.CredentialAAD(appID, auth.CredentialAppSecret)))(f.tb)
	now := f.Clock.Now()
	err := f.Store.AddApp(f.tb.Context(), auth.App{
		ID: appID, Platform: auth.PlatformWeChat, SealedCredentials: map[string][]byte{auth.CredentialAppSecret: sealed}, Audiences: audiences, CreatedAt: now, UpdatedAt: now,
	}, f.Event(auth.AuditAppAdded))
	if err != nil {
		f.tb.Fatal(err)
	}
}

// Event returns an audit event of the present, for calls to the store.
func (f *Fixture) Event(action auth.AuditAction) auth.AuditEvent {
	return auth.AuditEvent{At: f.Clock.Now(), Action: action, Actor: auth.ActorCLI}
}

// Login logs the simulated user in to the app [AppID].
func (f *Fixture) Login(user string) session.Grant {
	f.tb.Helper()
	return must(f.Service.Exchange(f.tb.Context(), session.ExchangeRequest{
		ClientID: AppID,
		Code:     auth.Secret(f.Simulator.NewCode(user)),
	}))(f.tb)
}

// Refresh presents a refresh token as the app [AppID].
func (f *Fixture) Refresh(refreshToken auth.Secret) (session.Grant, error) {
	return f.Service.Refresh(f.tb.Context(), session.RefreshRequest{ClientID: AppID, RefreshToken: refreshToken})
}

// must ends the test on an error.
func must[T any](v T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// Clock is a clock that moves only when the test moves it. It is safe for concurrent
// use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// Now returns the clock's time, in UTC.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock, back if d is negative.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
