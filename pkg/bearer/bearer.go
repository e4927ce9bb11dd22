package bearer

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
)

// newWait is how long New waits for keys and revocations.
const newWait = 5 * time.Second

// Verifier verifies access tokens. It is safe for concurrent use.
type Verifier struct {
	issuer, audience string
	// apps are the accepted apps; empty leaves the choice to the audience or the pin.
	apps []string
	// keyScope returns the scope of the service key from the feed, nil before it has
	// arrived. It is nil for a verifier without a feed.
	keyScope func() *keyScope
	// needsPin means that only tokens of the app to which the key is pinned are accepted.
	needsPin bool
	parser   *jwt.Parser
	clock    func() time.Time
	keys     keySource
	cutoffs  *cutoff.Set
	cache    *cache
	// freshness reports whether our data is fresh enough at now. at is the time by which
	// tokens expire: now, or later when our clock is slow.
	freshness     func(now time.Time) (fresh bool, at time.Time)
	acceptStale   bool
	acceptExpired bool
	// issuerCheck and refusals are nil for a local verifier.
	issuerCheck *issuerCheck
	refusals    *refusals
	close       func()
}

// New returns a verifier of the tokens of cfg.Issuer. The verifier fetches keys and
// follows revocations until [Verifier.Close]. New waits for both, at most 5 seconds or
// until ctx is done, and returns without error if they have not arrived: the service may
// be down for a moment. Verify returns [ErrStale] until they arrive.
//
// It returns an error only for an invalid cfg.
func New(ctx context.Context, cfg Config) (*Verifier, error) {
	return newVerifier(ctx, cfg, defaultTuning)
}

// tuning holds the settings that tests change.
type tuning struct {
	clock func() time.Time
	// newWait is how long New waits, fetchTimeout bounds one fetch of the keys, and
	// issuerPause is the pause between checks of an issuer that differs. The others
	// concern the feed.
	newWait, fetchTimeout, firstEventTimeout, eventTimeout, refusedPause, issuerPause time.Duration
}

var defaultTuning = tuning{
	clock: time.Now, newWait: newWait, fetchTimeout: keyTimeout,
	firstEventTimeout: firstEventTimeout, eventTimeout: eventTimeout, refusedPause: refusedPause, issuerPause: issuerPause,
}

func newVerifier(ctx context.Context, cfg Config, tune tuning) (*Verifier, error) {
	base, err := cfg.base()
	if err != nil {
		return nil, err
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	allowed := cfg.Algorithms
	if len(allowed) == 0 {
		allowed = algorithms
	}
	client, closeIdle := cfg.client()
	log := cfg.logger()
	if cfg.UnsafePlainHTTP && strings.HasPrefix(base, "http:") {
		log.LogAttrs(ctx, slog.LevelWarn, "issuer keys fetched over plain http, UnsafePlainHTTP is set")
	}
	if cfg.UnsafeAcceptStale {
		log.LogAttrs(ctx, slog.LevelWarn, "tokens accepted with stale revocation data, UnsafeAcceptStale is set")
	}

	keys := newRemoteKeys(base, client, allowed, log, tune)
	v := &Verifier{
		issuer:      cfg.Issuer,
		audience:    cmp.Or(cfg.Audience, cfg.Issuer),
		apps:        slices.Clone(cfg.Apps),
		parser:      newParser(allowed),
		clock:       tune.clock,
		keys:        keys,
		cutoffs:     cutoff.NewSet(),
		cache:       newCache(cmp.Or(cfg.TokenMemory, DefaultTokenMemory)),
		freshness:   func(now time.Time) (bool, time.Time) { return true, now },
		acceptStale: cfg.UnsafeAcceptStale,
		refusals:    &refusals{onRefused: cfg.OnRefused, log: log, clock: tune.clock, reasons: map[error]*reason{}},
	}

	run, stop := context.WithCancel(context.Background())
	var goroutines sync.WaitGroup
	v.close = func() { stop(); goroutines.Wait(); closeIdle() }
	start := func(f func(context.Context)) {
		goroutines.Add(1)
		go func() { defer goroutines.Done(); f(run) }()
	}
	start(keys.run)
	v.issuerCheck = &issuerCheck{
		url: base + "/.well-known/oauth-authorization-server", issuer: cfg.Issuer, client: client, log: log,
		timeout: tune.fetchTimeout, pause: tune.issuerPause, checked: make(chan struct{}),
	}
	start(v.issuerCheck.run)
	waitFor := []chan struct{}{keys.loaded}
	if key := strings.TrimSpace(cfg.ServiceKey); key != "" {
		f := &feed{
			url:               base + "/v1/revocations?" + cutoff.QueryKinds + "=" + cutoff.Query(),
			client:            client,
			serviceKey:        key,
			log:               log,
			clock:             tune.clock,
			set:               v.cutoffs,
			firstEventTimeout: tune.firstEventTimeout,
			eventTimeout:      tune.eventTimeout,
			refusedPause:      tune.refusedPause,
			maxStaleness:      cmp.Or(cfg.MaxStaleness, DefaultMaxStaleness),
			loaded:            make(chan struct{}),
			needsPin:          !cfg.selectsTokens(),
			apps:              v.apps,
		}
		v.freshness, v.keyScope, v.needsPin = f.freshness, f.keyScope.Load, f.needsPin
		start(f.run)
		waitFor = append(waitFor, f.loaded)
	} else {
		log.LogAttrs(ctx, slog.LevelWarn, "no service key configured, revoked tokens accepted until they expire")
	}

	timer := time.NewTimer(tune.newWait)
	defer timer.Stop()
	for _, arrived := range append(waitFor, v.issuerCheck.checked) {
		select {
		case <-arrived:
			continue
		case <-timer.C:
			if arrived != v.issuerCheck.checked {
				log.LogAttrs(ctx, slog.LevelWarn, "no answer from the service yet, refusing tokens until it answers")
			}
		case <-ctx.Done():
		}
		break
	}
	return v, nil
}

// Local configures a verifier that uses keys and cutoffs in memory, as the service itself
// does. Back ends use [Config].
type Local struct {
	// Issuer and Audience are as in [Config].
	Issuer   string
	Audience string
	// Apps are as in [Config], except that without an Audience and Apps the tokens of
	// every app of the issuer are accepted, as the service itself needs.
	Apps []string
	// Keys returns the signing key with this kid and its algorithm. It does no I/O.
	Keys func(kid string) (key crypto.PublicKey, alg string, ok bool)
	// Cutoffs are the live cutoffs, kept up to date by the caller. Nil means no
	// revocations.
	Cutoffs *cutoff.Set
	// Staleness returns the age of the data in Cutoffs. Nil means an age of 0.
	Staleness func() time.Duration
	// MaxStaleness is the limit on Staleness. Zero means [DefaultMaxStaleness].
	MaxStaleness time.Duration
	// Clock returns the current time. Nil means time.Now.
	Clock func() time.Time
	// TokenMemory is as in [Config].
	TokenMemory int

	// UnsafeAcceptExpired accepts expired tokens, to find out which session they belonged
	// to. Never use such a verifier to admit requests: it accepts every token that was
	// once valid.
	UnsafeAcceptExpired bool
}

// NewLocal returns a verifier that does no I/O and owns no goroutine.
//
// It returns an error only for an invalid l.
func NewLocal(l Local) (*Verifier, error) {
	if l.Issuer == "" || l.Keys == nil || l.MaxStaleness < 0 {
		return nil, errors.New("bearer: Local.Issuer and Local.Keys must be set, and Local.MaxStaleness must not be negative")
	}
	if err := checkApps(l.Apps); err != nil {
		return nil, err
	}
	v := &Verifier{
		issuer:   l.Issuer,
		audience: cmp.Or(l.Audience, l.Issuer),
		apps:     slices.Clone(l.Apps),
		parser:   newParser(algorithms),
		clock:    l.Clock,
		keys:     localKeys(l.Keys),
		cutoffs:  l.Cutoffs,
		cache:    newCache(cmp.Or(l.TokenMemory, DefaultTokenMemory)),
		freshness: func(now time.Time) (bool, time.Time) {
			return true, now
		},
		acceptExpired: l.UnsafeAcceptExpired,
		close:         func() {},
	}
	if v.clock == nil {
		v.clock = time.Now
	}
	if v.cutoffs == nil {
		v.cutoffs = cutoff.NewSet()
	}
	if l.Staleness != nil {
		maxStaleness := cmp.Or(l.MaxStaleness, DefaultMaxStaleness)
		v.freshness = func(now time.Time) (bool, time.Time) { return l.Staleness() <= maxStaleness, now }
	}
	return v, nil
}

// Verify returns the claims of a token that is valid now.
//
// Errors wrap exactly one of [ErrInvalid], [ErrMisconfigured], [ErrExpired], [ErrRevoked]
// and [ErrStale]. If several apply, the first in this list is returned, except that a
// token both expired and revoked is revoked. So an expired token was valid otherwise, and
// only a token that would be accepted is stale. There is no leeway; a token expires by
// the later of this clock and the service's, as the feed reports it.
//
// It does no I/O, with one exception: a token that may be valid and names an unknown key
// waits for a fetch of the issuer's keys. There is at most one fetch in 10 seconds,
// regardless of the number of such tokens, and the wait is at most 5 seconds or until ctx
// is done.
func (v *Verifier) Verify(ctx context.Context, token string) (*Claims, error) {
	c, err := v.verify(ctx, token)
	if err != nil {
		v.refusals.record(ctx, err)
	}
	return c, err
}

func (v *Verifier) verify(ctx context.Context, token string) (*Claims, error) {
	e := v.cache.get(token, v.issuer)
	known := e != nil && v.stillSigned(e)
	if !known {
		var err error
		if e, err = v.parse(ctx, token, v.clock(), false); err != nil {
			return nil, err
		}
	}
	appKnown, err := v.checkApp(e.claims.App)
	if err != nil {
		return nil, &genuineError{err, &e.claims}
	}
	// Freshness first: a cutoff that arrives after the cutoffs were checked must not make
	// the data look fresh.
	now := v.clock()
	fresh, at := v.freshness(now)
	switch {
	case v.cutoffs.Hits(e.claims.token()):
		return nil, &genuineError{ErrRevoked, &e.claims}
	case !at.Before(e.claims.ExpiresAt) && !v.acceptExpired:
		return nil, &genuineError{ErrExpired, &e.claims}
	case !fresh && !v.acceptStale, !appKnown:
		return nil, &genuineError{ErrStale, &e.claims}
	}
	if !known {
		v.cache.put(token, e, at)
	}
	return &e.claims, nil
}

// UnsafeRemember stores a token as Verify does when it has found it valid, but does not check
// its signature. It is for the issuer, which has just signed the token: the token's first
// Verify then costs no more than a later one. Never call it with a token that was received:
// any claims in it would be accepted. All other checks are as in Verify, and a token that
// does not pass them is not stored. Cutoffs and the age of the data are left to Verify.
func (v *Verifier) UnsafeRemember(ctx context.Context, token string) {
	if v.cache == nil {
		return
	}
	now := v.clock()
	e, err := v.parse(ctx, token, now, true)
	if err == nil && now.Before(e.claims.ExpiresAt) {
		v.cache.put(token, e, now)
	}
}

// checkApp returns nil for an app whose tokens are accepted. known reports whether that
// can be decided yet.
func (v *Verifier) checkApp(app string) (known bool, err error) {
	if len(v.apps) > 0 && !slices.Contains(v.apps, app) {
		return true, ErrOtherApp
	}
	if v.keyScope == nil {
		return true, nil
	}
	key := v.keyScope()
	switch {
	case key == nil:
		return !v.needsPin, nil
	case v.needsPin && key.pinned == "":
		return true, errNoApp
	case v.needsPin && key.pinned != app, !key.covers(app):
		return true, ErrOtherApp
	}
	return true, nil
}

// stillSigned reports whether the key that verified a cached token is still one of the
// issuer's.
func (v *Verifier) stillSigned(e *entry) bool {
	key, ok := v.keys.find(e.claims.KeyID)
	return ok && key.equal(e.key)
}

// Ready returns nil when tokens can be verified now, and otherwise an error
// that wraps [ErrStale] or [ErrMisconfigured]. It is meant for readiness probes.
func (v *Verifier) Ready() error {
	if v.issuerCheck != nil {
		if err := v.issuerCheck.err(); err != nil {
			return err
		}
	}
	if r, ok := v.keys.(*remoteKeys); ok && r.set.Load() == nil {
		return errNoKeys
	}
	if v.needsPin {
		switch key := v.keyScope(); {
		case key == nil:
			return ErrStale
		case key.pinned == "":
			return errNoApp
		}
	}
	if fresh, _ := v.freshness(v.clock()); !fresh && !v.acceptStale {
		return ErrStale
	}
	return nil
}

// Close stops following the service and returns when everything has stopped. Verify then
// uses the data it has until that is stale. A second Close is harmless.
func (v *Verifier) Close() error {
	v.close()
	return nil
}

// freshness reports whether the feed's data is fresh enough to decide about tokens.
func (f *feed) freshness(now time.Time) (fresh bool, at time.Time) {
	k := f.knowledge.Load()
	if k == nil {
		return false, now
	}
	if service := k.serviceClock(now); service.After(now) {
		at = service
	} else {
		at = now
	}
	return k.staleness(now) <= k.maxStaleness, at
}
