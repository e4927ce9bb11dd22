package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/seal"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/telemetry"
)

// asked counts the calls of the methods that the background tasks of a replica use.
type asked struct {
	store
	mu    sync.Mutex
	calls map[string]int
}

func (a *asked) count(method string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls[method]++
}

func (a *asked) Cutoffs(ctx context.Context, after int64, limit int) (cutoffs.Batch, error) {
	a.count("Cutoffs")
	return a.store.Cutoffs(ctx, after, limit)
}

func (a *asked) Keys(ctx context.Context) ([]keyring.StoredKey, error) {
	a.count("Keys")
	return a.store.Keys(ctx)
}

func (a *asked) KeysVersion(ctx context.Context) (string, error) {
	a.count("KeysVersion")
	return a.store.KeysVersion(ctx)
}

func (a *asked) AppsState(ctx context.Context) (string, []auth.App, error) {
	a.count("AppsState")
	return a.store.AppsState(ctx)
}

func (a *asked) Now(ctx context.Context) (time.Time, error) {
	a.count("Now")
	return a.store.Now(ctx)
}

// TestIdleReplica checks that a replica without requests asks the database once a second, and
// that a revocation costs one query more.
func TestIdleReplica(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sealer, err := seal.ParseRing(seal.GenerateFile())
		if err != nil {
			t.Fatal(err)
		}
		opened, err := openStoreToServe(t.Context(), setting.Database{Setting: "a test", SQLitePath: filepath.Join(t.TempDir(), "yufu.db")}, sealer)
		if err != nil {
			t.Fatal(err)
		}
		defer opened.Close()
		db := &asked{store: opened, calls: map[string]int{}}
		s := &service{
			parts: parts{
				log: slog.New(slog.DiscardHandler), store: db, sealer: sealer, rotation: keyring.DefaultPolicy,
				lifetimes: setting.Lifetimes{MaxStaleness: 30 * time.Second},
			},
			metrics: telemetry.NewMetrics("test"),
		}
		if err := s.openCutoffsAndKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s.apps, err = openApps(t.Context(), s.parts, s.follower); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var tasks sync.WaitGroup
		tasks.Go(func() { s.follower.Run(ctx) })
		tasks.Go(func() { s.keeper.Run(ctx) })
		tasks.Go(func() { s.restorer.Run(ctx, session.RestorePause) })
		tasks.Go(func() { s.apps.Run(ctx) })
		defer tasks.Wait()
		defer stop()
		want := func(name string, want map[string]int) {
			t.Helper()
			synctest.Wait()
			db.mu.Lock()
			defer db.mu.Unlock()
			for _, method := range []string{"Cutoffs", "Keys", "KeysVersion", "AppsState", "Now"} {
				if db.calls[method] != want[method] {
					t.Errorf("%s: %d calls of %s, want %d", name, db.calls[method], method, want[method])
				}
			}
			clear(db.calls)
		}
		time.Sleep(5*time.Second + time.Second/2) // between two queries
		synctest.Wait()
		db.mu.Lock()
		clear(db.calls)
		db.mu.Unlock()
		time.Sleep(time.Minute)
		want("an idle minute", map[string]int{"Cutoffs": 60})
		compromise := func([]keyring.StoredKey) (keyring.Change, error) {
			return keyring.Change{Compromised: []string{"gone"}}, nil
		}
		if _, err := opened.ChangeKeys(t.Context(), time.Now(), compromise); err != nil { // at another replica
			t.Fatal(err)
		}
		want("a revocation", map[string]int{"Cutoffs": 1})
	})
}
