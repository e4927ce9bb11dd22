package accesstoken_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/yufu-auth/yufu/db/sqlite"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform"
	"github.com/yufu-auth/yufu/pkg/platform/accesstoken"
	"github.com/yufu-auth/yufu/pkg/seal"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var app = platform.Credentials{AppID: "wxaaaaaaaaaaaaaaaa", Secrets: map[string]auth.Secret{auth.CredentialAppSecret: "an AppSecret"}}

// issuer is a platform that issues tokens one after the other.
type issuer struct {
	mu             sync.Mutex
	n              int
	life, takes    time.Duration
	err            error
	stuck          bool // a forced refresh changes nothing
	plain, forced  int
	concurrent, at int
}

// replace acts as another program with the same AppSecret.
func (p *issuer) replace() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n++
}

func (p *issuer) fetch(ctx context.Context, of platform.Credentials, force bool) (accesstoken.Token, error) {
	p.mu.Lock()
	p.at++
	p.concurrent = max(p.concurrent, p.at)
	if of.AppID != app.AppID || of.Secrets[auth.CredentialAppSecret] != app.Secrets[auth.CredentialAppSecret] {
		panic("another app's credentials")
	}
	if force {
		p.forced++
		if !p.stuck {
			p.n++
		}
	} else {
		p.plain++
	}
	t, err := accesstoken.Token{Text: auth.Secret(fmt.Sprintf("token-%d", p.n)), ExpiresAt: time.Now().Add(p.life)}, p.err
	p.mu.Unlock()
	select {
	case <-time.After(p.takes):
	case <-ctx.Done():
		err = ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at--
	if err != nil {
		return accesstoken.Token{}, err
	}
	return t, nil
}

func (p *issuer) want(t *testing.T, plain, forced int) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.plain != plain || p.forced != forced {
		t.Errorf("%d plain and %d forced requests to the platform, want %d and %d", p.plain, p.forced, plain, forced)
	}
	if p.concurrent > 1 {
		t.Errorf("%d concurrent requests to the platform", p.concurrent)
	}
}

// world is a database that replicas share, in a bubble where waiting takes no real time.
type world struct {
	t      *testing.T
	store  *sqlite.Store
	sealer *seal.Ring
	issuer *issuer
	path   string
}

func inBubble(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	t.Parallel()
	path := filepath.Join(t.TempDir(), "yufu.db")
	sealer, err := seal.ParseRing(seal.GenerateFile())
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		store, err := sqlite.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		if err := store.Migrate(t.Context(), shardtest.Sealed); err != nil {
			t.Fatal(err)
		}
		err = store.AddApp(t.Context(), auth.App{ID: app.AppID, Platform: auth.PlatformWeChat, SealedCredentials: map[string][]byte{auth.CredentialAppSecret: []byte("s")}},
			auth.AuditEvent{At: time.Now(), Action: auth.AuditAppAdded, Actor: auth.ActorCLI})
		if err != nil {
			t.Fatal(err)
		}
		test(t, &world{t, store, sealer, &issuer{life: 2 * time.Hour, takes: time.Second}, path})
	})
}

// replica is another process with the same database.
func (w *world) replica() *accesstoken.Holder { return w.replicaOn(w.store) }

func (w *world) replicaOn(s accesstoken.Store) *accesstoken.Holder {
	return accesstoken.New(accesstoken.Config{
		Store: s, Sealer: w.sealer, Fetch: w.issuer.fetch, Clock: time.Now,
		Ration: accesstoken.Ration{Every: 30 * time.Second, PerDay: 20, Day: func(t time.Time) string { return t.Format(time.DateOnly) }},
	})
}

func (w *world) token(h *accesstoken.Holder, dead auth.Secret) auth.Secret {
	w.t.Helper()
	got, err := h.Token(w.t.Context(), app, dead)
	if err != nil {
		w.t.Fatalf("Token() error = %v", err)
	}
	return got
}

func (w *world) want(h *accesstoken.Holder, dead, want auth.Secret) {
	w.t.Helper()
	if got := w.token(h, dead); got != want {
		w.t.Errorf("Token() = %s, want %s", got.Reveal(), want.Reveal())
	}
}

func TestToken(t *testing.T) {
	t.Run("a token is requested once for all replicas, concurrently and in sequence", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			a, b := w.replica(), w.replica()
			var wg sync.WaitGroup
			for range 20 {
				for _, h := range []*accesstoken.Holder{a, b} {
					wg.Go(func() { w.want(h, "", "token-0") })
				}
			}
			wg.Wait()
			w.want(w.replica(), "", "token-0")
			w.issuer.want(t, 1, 0)
		})
	})
	t.Run("a token is replaced shortly before it expires", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			a, b := w.replica(), w.replica()
			w.want(a, "", "token-0")
			time.Sleep(2*time.Hour - 2*time.Second - time.Minute)
			w.want(a, "", "token-0")
			w.want(b, "", "token-0")
			w.issuer.want(t, 1, 0)
			w.issuer.replace()
			time.Sleep(2 * time.Second)
			w.want(a, "", "token-1")
			w.want(b, "", "token-1")
			w.issuer.want(t, 2, 0)
		})
	})
	t.Run("a token with little time left is used and requested again", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			w.issuer.life = 30 * time.Second
			a := w.replica()
			w.want(a, "", "token-0")
			w.want(a, "", "token-0")
			w.issuer.want(t, 2, 0)
		})
	})
	t.Run("a token is stored sealed for its app only", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			w.want(w.replica(), "", "token-0")
			db, err := sql.Open("sqlite", w.path)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			var sealed []byte
			if err := db.QueryRowContext(t.Context(), `select sealed_token from platform_tokens`).Scan(&sealed); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(sealed), "token-0") {
				t.Error("the database contains the token in plain text")
			}
			if text, err := w.sealer.Open(sealed, seal.AAD("platform_tokens", "sealed_token", app.AppID)); err != nil || string(text) != "token-0" {
				t.Errorf("Open() = %q, %v", text, err)
			}
			if _, err := w.sealer.Open(sealed, seal.AAD("platform_tokens", "sealed_token", "wxother")); err == nil {
				t.Error("Open() for another app: error = nil, want an error")
			}
		})
	})
	t.Run("a token that cannot be opened counts as absent", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			w.want(w.replica(), "", "token-0")
			var err error
			if w.sealer, err = seal.ParseRing(seal.GenerateFile()); err != nil {
				t.Fatal(err)
			}
			w.want(w.replica(), "", "token-0")
			w.issuer.want(t, 2, 0)
			w.want(w.replica(), "", "token-0")
			w.issuer.want(t, 2, 0)
		})
	})
	t.Run("a token of an unregistered app is not requested", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			_, err := w.replica().Token(t.Context(), platform.Credentials{AppID: "wxunknown"}, "")
			if !errors.Is(err, auth.AppUnknown) {
				t.Errorf("Token() error = %v", err)
			}
			w.issuer.want(t, 0, 0)
		})
	})
}

func TestDeadToken(t *testing.T) {
	t.Run("a dead token that another program replaced is requested without force", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			a, b := w.replica(), w.replica()
			w.want(a, "", "token-0")
			w.want(b, "", "token-0")
			w.issuer.replace()
			w.want(a, "token-0", "token-1")
			w.want(b, "token-0", "token-1")
			w.want(a, "token-0", "token-1")
			w.issuer.want(t, 2, 0)
		})
	})
	t.Run("a dead token that the platform still hands out is replaced once for all replicas", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			holders := []*accesstoken.Holder{w.replica(), w.replica(), w.replica()}
			for _, h := range holders {
				w.want(h, "", "token-0")
			}
			var wg sync.WaitGroup
			for _, h := range holders {
				for range 10 {
					wg.Go(func() { w.want(h, "token-0", "token-1") })
				}
			}
			wg.Wait()
			w.issuer.want(t, 2, 1)
		})
	})
	t.Run("a dead token is replaced only within the platform's limit", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			a, b := w.replica(), w.replica()
			dead := w.token(a, "")
			forced := 0
			deadNow := func(h *accesstoken.Holder, refused bool) {
				t.Helper()
				got, err := h.Token(t.Context(), app, dead)
				if !refused {
					if err != nil || got == dead {
						t.Fatalf("Token() = %s, %v", got.Reveal(), err)
					}
					forced++
					dead = got
					return
				}
				var e *auth.Error
				if !errors.Is(err, accesstoken.ErrDead) || !errors.As(err, &e) || e.Code != auth.PlatformUnavailable || e.RetryAfter != 30*time.Second {
					t.Fatalf("Token() error = %v", err)
				}
			}
			// The bubble's clock starts at midnight.
			for range 20 {
				deadNow(a, false)
				deadNow(b, true)
				time.Sleep(30 * time.Second)
			}
			deadNow(b, true)
			deadNow(a, true)
			time.Sleep(24 * time.Hour)
			dead = w.token(b, "")
			deadNow(b, false)
			if w.issuer.forced != forced || forced != 21 {
				t.Errorf("%d forced requests, %d counted", w.issuer.forced, forced)
			}
		})
	})
	t.Run("a dead token that remains after a forced refresh is an error", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			a := w.replica()
			w.want(a, "", "token-0")
			w.issuer.stuck = true
			if _, err := a.Token(t.Context(), app, "token-0"); !errors.Is(err, accesstoken.ErrDead) {
				t.Errorf("Token() error = %v", err)
			}
			w.issuer.want(t, 2, 1)
		})
	})
}

// frail is a store whose methods fail as the test sets.
type frail struct {
	accesstoken.Store
	keep, end error
}

func (f *frail) KeepPlatformToken(ctx context.Context, appID string, lease uuid.UUID, k accesstoken.Kept) (bool, error) {
	if f.keep != nil {
		return false, f.keep
	}
	return f.Store.KeepPlatformToken(ctx, appID, lease, k)
}

func (f *frail) EndPlatformTokenLease(ctx context.Context, appID string, lease uuid.UUID) error {
	if f.end != nil {
		return f.end
	}
	return f.Store.EndPlatformTokenLease(ctx, appID, lease)
}

func TestTrouble(t *testing.T) {
	t.Run("a failure at the platform is returned unchanged, and the next caller may try at once", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			a := w.replica()
			w.issuer.err = errors.New("busy")
			if _, err := a.Token(t.Context(), app, ""); err != w.issuer.err { //nolint:errorlint // as it is, not wrapped
				t.Errorf("Token() error = %v", err)
			}
			w.issuer.err = nil
			began := time.Now()
			w.want(w.replica(), "", "token-0")
			if d := time.Since(began); d != w.issuer.takes {
				t.Errorf("the next caller waited %s", d)
			}
		})
	})
	t.Run("a failure of a caller that gives up releases the lease", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			ctx, cancel := context.WithTimeout(t.Context(), w.issuer.takes/2)
			defer cancel()
			if _, err := w.replica().Token(ctx, app, ""); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Token() error = %v", err)
			}
			began := time.Now()
			w.want(w.replica(), "", "token-0")
			if d := time.Since(began); d != w.issuer.takes {
				t.Errorf("the next caller waited %s", d)
			}
		})
	})
	t.Run("a failure of a caller that gives up in the queue affects only that caller", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			a := w.replica()
			var first sync.WaitGroup
			first.Go(func() { w.want(a, "", "token-0") })
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), w.issuer.takes/2)
			defer cancel()
			for _, h := range []*accesstoken.Holder{a, w.replica()} {
				if _, err := h.Token(ctx, app, ""); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Token() error = %v", err)
				}
			}
			first.Wait()
			w.issuer.want(t, 1, 0)
		})
	})
	t.Run("the lease of a replica that died ends", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			gone := &frail{w.store, auth.StorageUnavailable, auth.StorageUnavailable}
			if _, err := w.replicaOn(gone).Token(t.Context(), app, ""); !errors.Is(err, auth.StorageUnavailable) {
				t.Errorf("Token() error = %v", err)
			}
			_, err := w.replica().Token(t.Context(), app, "")
			var e *auth.Error
			if !errors.Is(err, accesstoken.ErrBusy) || !errors.As(err, &e) || e.Code != auth.PlatformUnavailable || e.RetryAfter <= 0 {
				t.Errorf("Token() error = %v", err)
			}
			w.want(w.replica(), "", "token-0")
			w.issuer.want(t, 2, 0)
		})
	})
	t.Run("after the lease of a slow replica, the token of the replica that took over counts", func(t *testing.T) {
		inBubble(t, func(t *testing.T, w *world) {
			w.issuer.takes = 20 * time.Second // longer than the lease
			slow := make(chan auth.Secret)
			go func() { slow <- w.token(w.replica(), "") }()
			synctest.Wait()
			time.Sleep(16 * time.Second)
			w.issuer.mu.Lock()
			w.issuer.n, w.issuer.takes, w.issuer.at = 1, time.Second, 0
			w.issuer.mu.Unlock()
			w.want(w.replica(), "", "token-1")
			if got := <-slow; got != "token-1" {
				t.Errorf("the slow replica uses %s", got.Reveal())
			}
			w.issuer.want(t, 2, 0)
		})
	})
}
