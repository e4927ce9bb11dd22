package accesstoken

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform"
	"github.com/yufu-auth/yufu/pkg/seal"
)

const (
	// expiryMargin is how long before its end a token is no longer used: it must last for
	// the call, and clocks differ.
	expiryMargin = time.Minute
	// leaseFor is longer than the maximum time for two calls to a platform and the
	// database calls in between.
	leaseFor = 15 * time.Second
	// leaseWait is how long a caller waits for the lease's holder, and pollInterval is
	// the time between two checks.
	leaseWait    = 8 * time.Second
	pollInterval = 100 * time.Millisecond
	// endTimeout bounds the release of a lease, which must happen even if the caller gave
	// up.
	endTimeout = 2 * time.Second
)

// Causes of errors, for the log and for metrics.
var (
	// ErrDead: the platform refuses the token that it hands out, and a new one may
	// not be requested yet.
	ErrDead = errors.New("accesstoken: the platform rejects the token that it issued; the next one may not be requested yet")
	// ErrBusy: another replica is renewing the token and has not finished.
	ErrBusy = errors.New("accesstoken: another replica is still renewing the token")
)

// Token is a token that a platform issued.
type Token struct {
	Text auth.Secret
	// ExpiresAt is when the token expires at the platform.
	ExpiresAt time.Time
}

// Fetch asks the platform for the app's current token or, if force is true, for a new
// one, which invalidates the current one. It makes one call with a timeout.
type Fetch func(ctx context.Context, app platform.Credentials, force bool) (Token, error)

// Ration limits how often a platform may be made to issue a new token.
type Ration struct {
	// Every is the shortest time between two.
	Every time.Duration
	// PerDay is the maximum on one day, and Day names the day of a time.
	PerDay int
	Day    func(time.Time) string
}

// Config holds the dependencies of a [Holder]. All fields are required.
type Config struct {
	Store  Store
	Sealer *seal.Ring
	Fetch  Fetch
	Ration Ration
	// Clock returns the current time by the database's clock, which all replicas share.
	Clock func() time.Time
}

// Holder gives one replica access to the tokens of all apps. It is safe for concurrent
// use.
type Holder struct {
	c Config

	mu   sync.Mutex
	apps map[string]*memory // only registered apps are added
}

// New returns a holder with an empty cache.
func New(c Config) *Holder { return &Holder{c: c, apps: make(map[string]*memory)} }

// memory is this replica's cache of an app's token.
type memory struct {
	// renewLock admits one caller at a time to the store.
	renewLock chan struct{}

	mu    sync.Mutex
	token Token
}

func (m *memory) get() Token {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.token
}

func (m *memory) set(t Token) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.token = t
}

func (h *Holder) memory(appID string) *memory {
	h.mu.Lock()
	defer h.mu.Unlock()
	m, ok := h.apps[appID]
	if !ok {
		m = &memory{renewLock: make(chan struct{}, 1)}
		h.apps[appID] = m
	}
	return m
}

// Token returns a token of the app that is valid as far as this replica knows. dead is
// the token that the platform just refused, or ""; it is not returned.
//
// Errors: see the package comment, and [auth.AppUnknown].
func (h *Holder) Token(ctx context.Context, app platform.Credentials, dead auth.Secret) (auth.Secret, error) {
	m := h.memory(app.AppID)
	if t := m.get(); h.usable(t, dead) {
		return t.Text, nil
	}
	select {
	case m.renewLock <- struct{}{}:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	defer func() { <-m.renewLock }()
	// The previous caller may have found a token.
	if t := m.get(); h.usable(t, dead) {
		return t.Text, nil
	}
	t, err := h.sharedToken(ctx, app, dead)
	if err != nil {
		return "", err
	}
	m.set(t)
	return t.Text, nil
}

// usable reports whether the token can be used for a call that begins now.
func (h *Holder) usable(t Token, dead auth.Secret) bool {
	return t.Text != "" && t.Text != dead && t.ExpiresAt.After(h.c.Clock().Add(expiryMargin))
}

// sharedToken returns the token that all replicas share, and renews it if necessary.
func (h *Holder) sharedToken(ctx context.Context, app platform.Credentials, dead auth.Secret) (Token, error) {
	lease, err := uuid.NewRandom()
	if err != nil {
		return Token{}, fmt.Errorf("accesstoken: generate a lease id: %w", err)
	}
	deadline := time.NewTimer(leaseWait)
	defer deadline.Stop()
	for {
		kept, err := h.c.Store.PlatformToken(ctx, app.AppID)
		if err != nil {
			return Token{}, err
		}
		if t := h.open(app.AppID, kept); h.usable(t, dead) {
			return t, nil
		}
		now := h.c.Clock()
		kept, granted, err := h.c.Store.LeasePlatformToken(ctx, LeaseParams{AppID: app.AppID, Lease: lease, Now: now, Until: now.Add(leaseFor)})
		if err != nil {
			return Token{}, err
		}
		if granted {
			if t, done, err := h.renew(ctx, app, dead, lease, kept); done || err != nil {
				return t, err
			}
			continue // with the token of the caller that took over the lease
		}
		pause := time.NewTimer(pollInterval)
		select {
		case <-pause.C:
		case <-deadline.C:
			pause.Stop()
			return Token{}, &auth.Error{Code: auth.PlatformUnavailable, RetryAfter: leaseWait, Err: ErrBusy}
		case <-ctx.Done():
			pause.Stop()
			return Token{}, ctx.Err()
		}
	}
}

// renew gets a valid token under the lease, stores it, and ends the lease in any case.
// done is false if another caller took the lease meanwhile; its token is the one that
// counts.
func (h *Holder) renew(ctx context.Context, app platform.Credentials, dead auth.Secret, lease uuid.UUID, kept Kept) (t Token, done bool, err error) {
	ended := false
	defer func() {
		if ended {
			return
		}
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
		defer cancel()
		// If it fails, the lease ends by itself.
		_ = h.c.Store.EndPlatformTokenLease(end, app.AppID, lease)
	}()
	if t := h.open(app.AppID, kept); h.usable(t, dead) {
		return t, true, nil
	}
	if t, err = h.fetch(ctx, app, dead, lease); err != nil {
		return Token{}, false, err
	}
	sealed, err := h.c.Sealer.Seal([]byte(t.Text.Reveal()), aad(app.AppID))
	if err != nil {
		return Token{}, false, err
	}
	ended, err = h.c.Store.KeepPlatformToken(ctx, app.AppID, lease, Kept{Sealed: sealed, ExpiresAt: t.ExpiresAt})
	return t, ended, err
}

// fetch gets the platform's current token or, if that is the dead one, a new one.
func (h *Holder) fetch(ctx context.Context, app platform.Credentials, dead auth.Secret, lease uuid.UUID) (Token, error) {
	t, err := h.c.Fetch(ctx, app, false)
	if err != nil || t.Text != dead {
		return t, err
	}
	now := h.c.Clock()
	allowed, err := h.c.Store.ForcePlatformToken(ctx, ForceParams{
		AppID: app.AppID, Lease: lease, Now: now,
		Every: h.c.Ration.Every, Day: h.c.Ration.Day(now), PerDay: h.c.Ration.PerDay,
	})
	if err != nil {
		return Token{}, err
	}
	if allowed {
		if t, err = h.c.Fetch(ctx, app, true); err != nil || t.Text != dead {
			return t, err
		}
	}
	return Token{}, &auth.Error{Code: auth.PlatformUnavailable, RetryAfter: h.c.Ration.Every, Err: ErrDead}
}

// open returns the stored token, or the zero Token if it cannot be opened: it is stored
// only to be shared, and a new one can be fetched.
func (h *Holder) open(appID string, kept Kept) Token {
	text, err := h.c.Sealer.Open(kept.Sealed, aad(appID))
	if err != nil {
		return Token{}
	}
	return Token{Text: auth.Secret(text), ExpiresAt: kept.ExpiresAt}
}

// aad returns the associated data with which an app's token is sealed.
func aad(appID string) []byte { return seal.AAD("platform_tokens", "sealed_token", appID) }
