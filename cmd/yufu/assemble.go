package main

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/yufu-auth/yufu/api/admin"
	bindingapi "github.com/yufu-auth/yufu/api/binding"
	"github.com/yufu-auth/yufu/api/gate"
	"github.com/yufu-auth/yufu/api/oauth"
	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/health"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/httpd"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/replicas"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/db"
	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/platform"
	"github.com/yufu-auth/yufu/pkg/platform/guard"
	"github.com/yufu-auth/yufu/pkg/platform/wechat"
	"github.com/yufu-auth/yufu/pkg/servicekey"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/telemetry"
	"github.com/yufu-auth/yufu/pkg/token"
)

// assemble makes the parts of the service, in the order in which they need each other.
func (s *service) assemble(ctx context.Context) error {
	measurePool(s.metrics, s.store)
	if err := s.openCutoffsAndKeys(ctx); err != nil {
		return err
	}
	platforms, err := s.platforms()
	if err != nil {
		return err
	}
	verifier, err := s.newVerifier()
	if err != nil {
		return err
	}
	minter, err := token.NewMinter(s.keys, s.issuer, s.lifetimes.AccessTokenTTL)
	if err != nil {
		return err
	}
	minter.RememberIn(verifier)
	if s.apps, err = openApps(ctx, s.parts, s.follower); err != nil {
		return err
	}
	sessions, err := s.newSessions(verifier, minter, platforms)
	if err != nil {
		return err
	}
	bindings := s.newBindings(sessions, minter, platforms)
	measureBindings(s.metrics, bindings)
	serviceKeys := servicekey.NewAuthenticator(s.store, s.lifetimes.MaxStaleness, time.Now, s.follower.Latest)
	s.onClose(serviceKeys.Close)
	keyGuard := web.NewGuard(serviceKeys)
	s.validation = newValidation(s.parts, s.apps, verifier, keyGuard, bindings)
	s.onClose(s.validation.close)
	s.newReadiness(ctx)
	s.newEndpoints(sessions, bindings, keyGuard, s.newAdminAPI(keyGuard, s.newRevoker(verifier)))
	return nil
}

// platforms returns the platforms by their names.
func (s *service) platforms() (map[string]platform.Provider, error) {
	weChat, err := wechat.New(wechat.Config{BaseURL: s.wechatURL, Tokens: s.store, Sealer: s.sealer, Clock: s.follower.Now})
	if err != nil {
		return nil, wrongUsage(setting.Errorf("YUFU_UNSAFE_WECHAT_URL", "is wrong: %w", err))
	}
	s.onClose(weChat.CloseIdleConnections)
	measured := measuredProvider{weChat, auth.PlatformWeChat, wechat.Class, s.metrics}
	return map[string]platform.Provider{
		auth.PlatformWeChat: guard.New(measured, guard.Config{Concurrency: s.limits.PlatformConcurrency}),
	}, nil
}

// newReadiness makes the checker and the member that decide whether this replica is ready,
// and compares it with the other replicas.
func (s *service) newReadiness(ctx context.Context) {
	s.checker = health.New(s.store, func() string {
		if err := s.keeper.Unusable(); err != nil {
			return "the keys in the database cannot be used: " + telemetry.Redact(err.Error())
		}
		if err := s.checkMayIssue(); err != nil {
			return telemetry.Redact(causeOf(err).Error())
		}
		return s.member.Conflict()
	})
	s.member = replicas.New(replicas.Config{
		Store: s.store, Version: buildVersion(), Unready: s.checker.Unready, Log: s.log,
		MasterKey: func() string { return s.sealer.Fingerprints()[0] },
		Settings: auth.Settings{
			Issuer: s.issuer, JWKSMaxAge: s.rotation.JWKSMaxAge, SessionMaxTTL: s.lifetimes.SessionMaxTTL, MaxStaleness: s.lifetimes.MaxStaleness,
		},
	})
	// Before the first request, because this replica may have to refuse requests.
	s.member.Sync(ctx)
}

// newEndpoints makes the endpoints.
func (s *service) newEndpoints(sessions *session.Service, bindings *binding.Service, keyGuard *web.Guard, adminAPI *admin.API) {
	limits := oauth.NewExchangeLimits(s.limits.ExchangeFailureLimit, s.limits.ExchangeSuccessLimit, time.Now)
	s.onClose(limits.Close)
	tokens := oauth.New(s.issuer, sessions, publishedKeys{s}, limits, s.rotation.JWKSMaxAge)
	public := publicRouter(s.log, s.metrics, s.proxies, tokens, bindingapi.New(sessions, bindings), s.newFeed(keyGuard), s.validation)
	private := adminRouter(s.log, s.checker, s.metrics, s.adminProxies, adminAPI)
	if s.guard != nil {
		public, private = s.guard(public), s.guard(private)
	}
	s.endpoints = append([]httpd.Endpoint{
		{Name: "public", Listener: s.public, Handler: public, MaxConnections: s.limits.MaxConnections, Proxies: s.proxies},
	}, s.extra...)
	s.endpoints = append(s.endpoints, httpd.Endpoint{
		Name: "admin", Listener: s.admin, Handler: private, MaxConnections: maxAdminConnections, Proxies: s.adminProxies,
	})
}

// newFeed returns the revocation feed. A replica that lacks revocations refuses subscribers.
func (s *service) newFeed(keyGuard *web.Guard) *gate.Handler {
	return gate.New(s.follower, func(r *http.Request, scope servicekey.Scope) (servicekey.Key, error) {
		key, err := keyGuard.Authorize(r, scope)
		if err := cmp.Or(err, s.restorer.Check()); err != nil {
			return key, err
		}
		return servicekey.FollowFeed(r.Context(), s.store, key, auth.StoredTime(s.follower.Now()))
	})
}

// openCutoffsAndKeys opens the follower of revocations, the keys, their keeper and the
// restorer. [service.run] runs them. From here on, the store applies the cutoffs that it
// writes to this replica at once.
func (s *service) openCutoffsAndKeys(ctx context.Context) (err error) {
	s.follower, err = cutoffs.Open(ctx, cutoffs.Config{
		Store: s.store, MaxStaleness: s.lifetimes.MaxStaleness, Clock: time.Now, Log: s.log,
		// The keeper and the directory read what they need when they are opened.
		OnKeysChange: func() {
			if s.keeper != nil {
				s.keeper.Wake()
			}
		},
		OnAppsChange: func() {
			if s.apps.Directory != nil {
				s.apps.Wake()
			}
		},
		OnTimelineChange: func() {
			if s.restorer != nil {
				s.restorer.TimelineChanged()
			}
		},
	})
	if err != nil {
		return err
	}
	measureClock(s.metrics, s.follower)
	if pg, ok := s.store.(*postgres.Store); ok {
		if without := pg.HistoryWithout(); len(without) > 0 {
			s.log.Warn("revocation history identified without values that PostgreSQL hides from this role", "without", strings.Join(without, ", "))
		}
	}
	s.store = db.ApplyCutoffs(s.store, func(ctx context.Context) {
		if err := s.follower.CatchUp(ctx); err != nil {
			s.log.Warn("committed revocation not read back yet", "cause", err)
		}
	})
	if s.sealedKeys, err = openSealed(ctx, s.store, s.sealer, s.masterKey); err != nil {
		return err
	}
	s.keys.SetCutoffCheck(s.follower.HitsKey)
	measureKeys(s.metrics, s.keys, s.follower.Now)
	s.keeper, err = keyring.NewKeeper(keyring.KeeperConfig{
		Ring: s.keys, Policy: s.rotation, Clock: s.follower.Now, DatabaseClock: s.store.Now, Log: s.log,
		Version: func() (string, error) {
			last, err := s.follower.LastAnswer()
			return last.Keys, err
		},
	})
	if err != nil {
		return wrongUsage(err)
	}
	measureKeeper(s.metrics, s.keeper)
	s.restorer, err = session.NewRestorer(ctx, session.RestorerConfig{
		Store: s.store, Memory: s.follower, Keys: s.keeper.CatchUp,
		Clock: s.follower.Now, Log: s.log,
	})
	if err != nil {
		return err
	}
	return nil
}

// causeOf returns the cause under an [auth.Error], or the error itself.
func causeOf(err error) error {
	var e *auth.Error
	if errors.As(err, &e) && e.Err != nil {
		return e.Err
	}
	return err
}

func (s *service) newSessions(verifier *token.Verifier, minter *token.Minter, platforms map[string]platform.Provider) (*session.Service, error) {
	return session.NewService(session.Config{
		Store:           s.store,
		Apps:            s.apps,
		Platforms:       platforms,
		Sealer:          s.sealer,
		Shards:          s.shards,
		Minter:          minter,
		Verifier:        verifier,
		Codec:           token.NewRefreshCodec(s.keys),
		Lifetimes:       s.lifetimes.Session(),
		MaxSessions:     s.limits.SessionLimit,
		Clock:           s.follower.Now,
		Restorer:        s.restorer,
		CheckMayIssue:   s.checkMayIssue,
		TimelineChanged: s.follower.TimelineChangedWithin,
	})
}

func (s *service) newBindings(sessions *session.Service, minter *token.Minter, platforms map[string]platform.Provider) *binding.Service {
	return binding.NewService(binding.Config{
		Store:         s.store,
		Sessions:      sessions,
		Minter:        minter,
		Facts:         s.facts,
		Sealer:        s.sealer,
		Platforms:     platforms,
		Webhook:       webhooks{s.webhooks},
		Clock:         s.follower.Now,
		CheckMayIssue: s.checkMayIssue,
	})
}

func (s *service) newAdminAPI(keyGuard *web.Guard, revoker *session.Revoker) *admin.API {
	return admin.New(admin.Config{
		Guard:        keyGuard,
		Revoker:      revoker,
		Keys:         s.store,
		AppStore:     s.store,
		AuditLog:     s.store,
		SigningKeys:  s.keeper,
		MaxStaleness: s.lifetimes.MaxStaleness,
		Persons: person.NewService(person.Config{
			Store: s.store, Apps: s.store, Facts: s.facts, Clock: s.follower.Now,
		}),
		Apps: app.NewService(app.Config{
			Store: s.store, Sealer: s.sealer, Keys: s.keeper, CheckWebhookURL: s.webhooks.CheckURL,
			Clock: func(context.Context) (time.Time, error) { return s.follower.Now(), nil },
		}),
		Sessions: s.store,
		CutoffID: s.follower.EventID,
		Clock:    s.follower.Now,
	})
}

func (s *service) newRevoker(verifier *token.Verifier) *session.Revoker {
	return session.NewRevoker(session.RevokerConfig{
		Store:          s.store,
		Verifier:       verifier,
		Codec:          token.NewRefreshCodec(s.keys),
		MaxStaleness:   s.lifetimes.MaxStaleness,
		AccessTokenTTL: s.lifetimes.AccessTokenTTL,
		Clock:          s.follower.Now,
	})
}
