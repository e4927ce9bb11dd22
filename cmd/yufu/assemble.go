package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/yufu-auth/yufu/api/admin"
	bindingapi "github.com/yufu-auth/yufu/api/binding"
	"github.com/yufu-auth/yufu/api/gate"
	"github.com/yufu-auth/yufu/api/oauth"
	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/health"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/httpd"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/janitor"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/replicas"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/binding/webhook"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/platform"
	"github.com/yufu-auth/yufu/pkg/platform/guard"
	"github.com/yufu-auth/yufu/pkg/platform/wechat"
	"github.com/yufu-auth/yufu/pkg/seal"
	"github.com/yufu-auth/yufu/pkg/servicekey"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/telemetry"
	"github.com/yufu-auth/yufu/pkg/token"
)

// maxAdminConnections bounds the connections to the admin listener, where there
// are admins, probes and one or two collectors of metrics; the revocation feed,
// with its thousands of subscribers, is on the public one.
const maxAdminConnections = 1000

// parts is what the service is assembled from.
type parts struct {
	log       *slog.Logger
	store     store
	sealer    *seal.Ring
	keys      *keyring.Ring
	facts     *person.FactKey
	issuer    string
	lifetimes setting.Lifetimes
	rotation  keyring.Policy
	limits    setting.Limits
	// verifyCookie names the cookie that forward-auth may take a token from.
	verifyCookie string
	// proxies are believed about a client's address.
	proxies, adminProxies []netip.Prefix
	// wechatURL is empty for WeChat itself.
	wechatURL     string
	public, admin net.Listener
	// delay is how long it serves after SIGTERM, and grace how long it drains.
	delay, grace time.Duration
	// rereads are the files that are read again on SIGHUP.
	rereads []reread
	// applied is called after a commit that ended sessions, before the answer.
	applied func(ctx context.Context)
	// follower knows the revocations and the time by the database's clock. All times
	// that the store keeps are by that clock. Intervals are measured with time.Now:
	// only that has a monotonic reading.
	follower *cutoffs.Follower
	// restorer restores what this replica remembers to a database that lost its latest
	// commits.
	restorer *session.Restorer
	// fit says why this replica must not issue tokens now, or returns nil.
	fit func() error
	// webhooks ask the apps' own back ends.
	webhooks *webhook.Client
	// guard, if there is one, stands before both listeners.
	guard func(http.Handler) http.Handler
	// extra endpoints live and end with the service: the simulator of yufu dev.
	extra []httpd.Endpoint
}

// serve assembles the service and runs it until ctx is done. It is no error if that
// happens while the service is being assembled.
func serve(ctx context.Context, p parts) error {
	err := assemble(ctx, p)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func assemble(ctx context.Context, p parts) error {
	metrics := telemetry.NewMetrics(buildVersion())
	measurePool(metrics, p.store)
	keeper, err := p.follow(ctx, metrics)
	if err != nil {
		return err
	}
	weChat, err := wechat.New(wechat.Config{BaseURL: p.wechatURL, Tokens: p.store, Sealer: p.sealer, Clock: p.follower.Now})
	if err != nil {
		return wrongUsage(setting.Errorf("YUFU_UNSAFE_WECHAT_URL", "is wrong: %w", err))
	}
	defer weChat.CloseIdleConnections()
	guarded := guard.New(observed{weChat, auth.PlatformWeChat, wechat.Class, metrics}, guard.Config{Concurrency: p.limits.PlatformConcurrency})
	verifier, err := newVerifier(p)
	if err != nil {
		return err
	}
	platforms := map[string]platform.Provider{auth.PlatformWeChat: guarded}
	minter, err := token.NewMinter(p.keys, p.issuer, p.lifetimes.AccessTokenTTL)
	if err != nil {
		return err
	}
	sessions, err := newSessions(p, verifier, minter, platforms)
	if err != nil {
		return err
	}
	bindings := newBindings(p, sessions, minter, platforms)
	metrics.Counter("yufu_binding_facts_slowed_total", "Attempts to bind by facts that this replica refused because too many attempts of their app failed.", nil,
		func() float64 { return float64(bindings.SlowedFacts()) })
	limits := oauth.NewExchangeLimits(p.limits.ExchangeFailureLimit, p.limits.ExchangeSuccessLimit, time.Now)
	defer limits.Close()
	serviceKeys := servicekey.NewAuthenticator(p.store, p.lifetimes.MaxStaleness, time.Now, p.follower.Latest)
	defer serviceKeys.Close()
	keyGuard := web.NewGuard(serviceKeys)
	adminAPI := newAdminAPI(p, keyGuard, newRevoker(p, verifier), keeper)
	feed := gate.New(p.follower, func(r *http.Request, scope servicekey.Scope) (servicekey.Key, error) {
		key, err := keyGuard.Authorize(r, scope)
		// What this replica lacks, it does not vouch for.
		if err := cmp.Or(err, p.restorer.Check()); err != nil {
			return key, err
		}
		return servicekey.FollowFeed(r.Context(), p.store, key, auth.StoredTime(p.follower.Now()))
	})
	validation, err := newValidation(ctx, p, verifier, p.follower.MaxStaleness(), keyGuard, bindings)
	if err != nil {
		return err
	}
	defer validation.close()
	var member *replicas.Member // which asks the checker
	checker := health.New(p.store, func() string {
		if err := keeper.Unusable(); err != nil {
			return "the keys in the database cannot be used: " + telemetry.Redact(err.Error())
		}
		if err := p.fit(); err != nil {
			return telemetry.Redact(causeOf(err).Error())
		}
		return member.Conflict()
	})
	member = replicas.New(replicas.Config{
		Store: p.store, Version: buildVersion(), Unready: checker.Unready, Log: p.log,
		Settings: auth.Settings{
			Issuer: p.issuer, JWKSMaxAge: p.rotation.JWKSMaxAge, SessionMaxTTL: p.lifetimes.SessionMaxTTL, MaxStaleness: p.lifetimes.MaxStaleness,
		},
	})
	// Before the first request: it may have to refuse to be ready.
	member.Meet(ctx)
	public := publicRouter(p.log, metrics, p.proxies, oauth.New(p.issuer, sessions, publishedKeys{p}, limits, p.rotation.JWKSMaxAge), bindingapi.New(sessions, bindings), feed, validation)

	// While it is leaving it serves, so all of this goes on.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var owned sync.WaitGroup
	following, stopFollowing := context.WithCancel(background)
	defer stopFollowing()
	owned.Go(func() { p.follower.Run(following) })
	owned.Go(func() { keeper.Run(background) })
	owned.Go(func() { p.restorer.Run(background, session.RestorePause) })
	owned.Go(func() { validation.run(background) })
	owned.Go(func() { member.Run(background, replicas.Pause) })
	// The janitor also asks the database for its time, and goes by the earlier of the two.
	owned.Go(func() { janitor.Run(background, p.store, p.log, time.Now, janitor.Pause) })
	defer owned.Wait()
	defer stop()

	admin := adminRouter(p.log, checker, metrics, p.adminProxies, adminAPI)
	if p.guard != nil {
		public, admin = p.guard(public), p.guard(admin)
	}
	endpoints := append([]httpd.Endpoint{
		{Name: "public", Listener: p.public, Handler: public, MaxConnections: p.limits.MaxConnections, Proxies: p.proxies},
	}, p.extra...)
	endpoints = append(endpoints, httpd.Endpoint{
		Name: "admin", Listener: p.admin, Handler: admin,
		MaxConnections: maxAdminConnections, Proxies: p.adminProxies,
	})
	p.log.Info("starting", "version", buildVersion(), "issuer", p.issuer)
	again := make(chan os.Signal, 2)
	signal.Notify(again, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(again)
	hangUp := make(chan os.Signal, 1)
	signal.Notify(hangUp, syscall.SIGHUP)
	defer signal.Stop(hangUp)
	owned.Go(func() { p.rereadOn(background, hangUp) })
	return httpd.Serve(ctx, p.log, httpd.Stop{
		Delay: p.delay, Skip: again, Grace: p.grace,
		Leaving: func() {
			checker.Drain()
			// The signal that ended ctx came here, too, unless it came before again
			// was there. Notify waits until the signal was handed to all channels.
			signal.Notify(again, os.Interrupt, syscall.SIGTERM)
			select {
			case <-again:
			default:
			}
		},
		Draining: func() {
			signal.Stop(again) // the next one kills
			stopFollowing()    // and with it the streams of the feed, which have no end
		},
	}, endpoints...)
}

// follow opens the follower of revocations, the keeper of the keys and the restorer,
// and sets what p says of them. The caller runs all three.
func (p *parts) follow(ctx context.Context, metrics *telemetry.Metrics) (*keyring.Keeper, error) {
	// Called by the follower, which runs later.
	var (
		keeper   *keyring.Keeper
		restorer *session.Restorer
	)
	follower, err := cutoffs.Open(ctx, cutoffs.Config{
		Store: p.store, MaxStaleness: p.lifetimes.MaxStaleness, Clock: time.Now, Log: p.log,
		Woken: func() { keeper.Wake() },
		Moved: func() { restorer.Moved() },
	})
	if err != nil {
		return nil, err
	}
	p.follower = follower
	p.keys.Distrust(follower.HitsKey)
	measureKeys(metrics, p.keys, follower.Now)
	measureClock(metrics, follower)
	if s, ok := p.store.(*postgres.Store); ok {
		if without := s.HistoryWithout(); len(without) > 0 {
			p.log.Warn("PostgreSQL does not let this role read all that names the history of revocations, so the name does without", "without", strings.Join(without, ", "))
		}
	}
	p.applied = func(ctx context.Context) {
		// The revocation is committed; at worst this replica learns of it when
		// the others do.
		if err := follower.CatchUp(ctx); err != nil {
			p.log.Warn("a revocation is committed, but this replica could not read it back yet", "cause", err)
		}
	}
	keeper, err = keyring.NewKeeper(keyring.KeeperConfig{
		Ring: p.keys, Policy: p.rotation, Clock: follower.Now, DatabaseClock: p.store.Now, Applied: p.applied, Log: p.log,
	})
	if err != nil {
		return nil, wrongUsage(err)
	}
	measureKeeper(metrics, keeper)
	restorer, err = session.NewRestorer(ctx, session.RestorerConfig{
		Store: p.store, Memory: follower, Keys: keeper.CatchUp,
		Clock: follower.Now, Applied: p.applied, Log: p.log,
	})
	if err != nil {
		return nil, err
	}
	p.restorer, p.fit = restorer, func() error { return cmp.Or(follower.Check(), restorer.Check()) }
	return keeper, nil
}

// causeOf returns the cause under an [auth.Error], or the error itself.
func causeOf(err error) error {
	var e *auth.Error
	if errors.As(err, &e) && e.Err != nil {
		return e.Err
	}
	return err
}

func newSessions(p parts, verifier *token.Verifier, minter *token.Minter, platforms map[string]platform.Provider) (*session.Service, error) {
	return session.NewService(session.Config{
		Store:       p.store,
		Platforms:   platforms,
		Sealer:      p.sealer,
		Minter:      minter,
		Verifier:    verifier,
		Codec:       token.NewRefreshCodec(p.keys),
		Lifetimes:   p.lifetimes.Session(),
		MaxSessions: p.limits.SessionLimit,
		Clock:       p.follower.Now,
		Applied:     p.applied,
		Restorer:    p.restorer,
		Fit:         p.fit,
		Moved:       p.follower.MovedWithin,
	})
}

func newBindings(p parts, sessions *session.Service, minter *token.Minter, platforms map[string]platform.Provider) *binding.Service {
	return binding.NewService(binding.Config{
		Store:     p.store,
		Sessions:  sessions,
		Minter:    minter,
		Facts:     p.facts,
		Sealer:    p.sealer,
		Platforms: platforms,
		Webhook:   webhooks{p.webhooks},
		Clock:     p.follower.Now,
		Applied:   p.applied,
		Fit:       p.fit,
	})
}

func newAdminAPI(p parts, guard *web.Guard, revoker *session.Revoker, keeper *keyring.Keeper) *admin.API {
	return admin.New(admin.Config{
		Guard:        guard,
		Revoker:      revoker,
		Keys:         p.store,
		AppStore:     p.store,
		SigningKeys:  keeper,
		MaxStaleness: p.lifetimes.MaxStaleness,
		Persons: person.NewService(person.Config{
			Store: p.store, Apps: p.store, Facts: p.facts, Clock: p.follower.Now, Applied: p.applied,
		}),
		Apps:     app.NewService(app.Config{Store: p.store, Sealer: p.sealer, Clock: p.follower.Now}),
		Sessions: p.store,
		CheckWebhookSecret: func(s auth.Secret) error {
			_, err := parseWebhookKeys(s)
			return err
		},
		CheckWebhookURL: p.webhooks.CheckURL,
		CutoffID:        p.follower.EventID,
		Clock:           p.follower.Now,
	})
}

func newRevoker(p parts, verifier *token.Verifier) *session.Revoker {
	return session.NewRevoker(session.RevokerConfig{
		Store:          p.store,
		Verifier:       verifier,
		Codec:          token.NewRefreshCodec(p.keys),
		MaxStaleness:   p.lifetimes.MaxStaleness,
		AccessTokenTTL: p.lifetimes.AccessTokenTTL,
		Clock:          p.follower.Now,
		Applied:        p.applied,
	})
}
