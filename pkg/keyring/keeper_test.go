package keyring_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/db/sqlite"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
)

// flaky is a store that can fail, and signals each query.
type flaky struct {
	*sqlite.Store
	asked chan struct{}

	mu  sync.Mutex
	err error
}

func (f *flaky) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *flaky) KeysVersion(ctx context.Context) (string, error) {
	f.mu.Lock()
	err := f.err
	f.mu.Unlock()
	defer func() { f.asked <- struct{}{} }()
	if err != nil {
		return "", err
	}
	return f.Store.KeysVersion(ctx)
}

// lineLog is a log that sends each line to a channel.
type lineLog struct {
	mu    sync.Mutex
	text  bytes.Buffer
	lines chan string
}

func (s *lineLog) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines <- string(p)
	return s.text.Write(p)
}

func TestKeeperRun(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, policy)
	store := &flaky{Store: openFile(t, f.path), asked: make(chan struct{}, 1000)}
	log := &lineLog{lines: make(chan string, 1000)}
	ring := open(t, store, f.now)
	k, err := keyring.NewKeeper(keyring.KeeperConfig{
		Ring: ring, Policy: policy, Log: slog.New(slog.NewTextHandler(log, nil)),
		Clock:         func() time.Time { return now },
		DatabaseClock: func(context.Context) (time.Time, error) { return now, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { k.Run(ctx) })
	defer running.Wait()
	defer stop()
	says := func(want string) {
		t.Helper()
		select {
		case line := <-log.lines:
			if !strings.Contains(line, want) {
				t.Errorf("log line = %q, want %q", line, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("no log line with %q after 30 s", want)
		}
	}
	// turn wakes the keeper until it has queried three times: the first query may have
	// been running, and the result of the second is known at the third.
	turn := func() {
		t.Helper()
		for len(store.asked) > 0 {
			<-store.asked
		}
		for range 3 {
			k.Wake()
			select {
			case <-store.asked:
			case <-time.After(30 * time.Second):
				t.Fatal("no query after 30 s")
			}
		}
	}

	// It reads the changes of another replica.
	f.pass(takeoverAge)
	promoted := f.rotate(keyring.RotateRequest{Use: keyring.UseAccess})[0]
	turn()
	if got := signingKID(t, ring, f.now); got != promoted.KID {
		t.Errorf("signing key = %s, want %s", got, promoted.KID)
	}
	// It logs a failure once, and again when the failure changes.
	store.fail(auth.StorageUnavailable)
	says("key refresh failed")
	turn()
	store.fail(&auth.Error{Code: auth.Internal})
	says("level=ERROR")
	turn()
	store.fail(nil)
	says("key refresh recovered")
	if got := signingKID(t, ring, f.now); got != promoted.KID {
		t.Errorf("signing key after the failures = %s, want %s", got, promoted.KID)
	}
	stop()
	running.Wait()
	log.mu.Lock()
	defer log.mu.Unlock()
	if n := strings.Count(log.text.String(), "\n"); n != 3 {
		t.Errorf("Run() logged %d lines, want 3:\n%s", n, log.text.String())
	}
}

// TestKeeperVersion checks that a keeper that knows the version of the keys asks the
// database only when it has changed.
func TestKeeperVersion(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1, policy)
	store := &flaky{Store: openFile(t, f.path), asked: make(chan struct{}, 1000)}
	ring := open(t, store, f.now)
	// Each check of the keeper receives the answer for it.
	type known struct {
		version string
		err     error
	}
	answers := make(chan known)
	k, err := keyring.NewKeeper(keyring.KeeperConfig{
		Ring: ring, Policy: policy,
		Clock:         func() time.Time { return now },
		DatabaseClock: func(context.Context) (time.Time, error) { return now, nil },
		Version: func() (string, error) {
			a := <-answers
			return a.version, a.err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { k.Run(ctx) })
	defer running.Wait()
	defer close(answers)
	defer stop()
	// Each answer is given twice: when the second is taken, the first has had its effect.
	check := func(name string, a known, want int) {
		t.Helper()
		for range 2 {
			k.Wake()
			answers <- a
		}
		if got := len(store.asked); got != want {
			t.Errorf("%s: %d queries, want %d", name, got, want)
		}
	}
	version := func() string {
		v, err := store.Store.KeysVersion(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	check("at first", known{version: version()}, 1)
	check("without a change", known{version: version()}, 1)
	f.pass(takeoverAge)
	promoted := f.rotate(keyring.RotateRequest{Use: keyring.UseAccess})[0]
	check("before the change is known", known{err: auth.StorageUnavailable}, 1)
	check("after a change", known{version: version()}, 2)
	if got := signingKID(t, ring, f.now); got != promoted.KID {
		t.Errorf("signing key = %s, want %s", got, promoted.KID)
	}
}
