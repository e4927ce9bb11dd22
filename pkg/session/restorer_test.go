package session_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

// forgetful is a database that may have lost its latest commits.
type forgetful struct {
	mu         sync.Mutex
	recorded   bool
	recordings int
	down       error
	asked      []session.RestoreParams
	restored   session.Restored
}

func (f *forgetful) RestoreCutoffs(_ context.Context, r session.RestoreParams) (session.Restored, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, r)
	return f.restored, f.down
}

func (f *forgetful) RecordedHistory(context.Context) (session.History, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return nil, f.recorded, nil
}

func (f *forgetful) RecordHistory(context.Context, session.History) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.recordings++
	return f.down
}

func (f *forgetful) EndEverything(context.Context, auth.AuditEvent, time.Time) (int, error) {
	return 0, errors.New("not of this test")
}

func (f *forgetful) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// memory holds the revocations that a replica remembers.
type memory struct {
	all []auth.Cutoff
	// learnt are the cutoffs that CatchUp adds, and deaf is its error.
	learnt []auth.Cutoff
	deaf   error
}

func (m *memory) Hitting(*auth.Session) []auth.Cutoff { return m.all }
func (m *memory) Cutoffs() []auth.Cutoff              { return m.all }
func (m *memory) Deployment() uuid.UUID               { return uuid.Nil }

func (m *memory) CatchUp(context.Context) error {
	m.all = append(m.all, m.learnt...)
	return m.deaf
}

// restorerBed is a restorer whose pauses the test ends.
type restorerBed struct {
	*session.Restorer
	db *forgetful
	memory
	log  bytes.Buffer // read after Run ended
	keys int
	// paused gets a value whenever it waits; again ends the wait.
	paused, again chan time.Time
	stop          func()
}

func newRestorerBed(t *testing.T, db *forgetful) *restorerBed {
	t.Helper()
	b := &restorerBed{db: db, paused: make(chan time.Time), again: make(chan time.Time)}
	var err error
	b.Restorer, err = session.NewRestorer(t.Context(), session.RestorerConfig{
		Store: db, Memory: &b.memory,
		Keys:  func(context.Context) error { b.keys++; return nil },
		Clock: func() time.Time { return t0 },
		Log:   slog.New(slog.NewTextHandler(&b.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var t0 = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func (b *restorerBed) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		b.Run(ctx, func() <-chan time.Time {
			select {
			case b.paused <- t0:
			case <-ctx.Done():
			}
			return b.again
		})
	})
	b.stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(b.stop)
}

func TestRestorerWithoutMemory(t *testing.T) {
	t.Parallel()
	db := &forgetful{}
	b := newRestorerBed(t, db)
	if err := b.Check(); !errors.Is(err, auth.StorageUnavailable) || !strings.Contains(err.Error(), "yufu migrate --restored") {
		t.Errorf("Check() = %v, want an error with the command to run", err)
	}
	b.learnt = []auth.Cutoff{{Kind: auth.CutoffSession, Session: uuid.New(), Ver: 7}}
	b.run(t)
	<-b.paused
	b.TimelineChanged() // must not record the history
	<-b.paused
	db.set(func() { db.recorded = true })
	b.again <- t0
	for deadline := time.Now().Add(time.Minute); b.Check() != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("Check() returns an error although the history is recorded")
		}
	}
	b.stop()
	if db.recordings != 1 || len(db.asked) != 1 || b.keys != 1 {
		t.Errorf("%d recordings, %d restorations, %d of keys; want 1, 1, 1", db.recordings, len(db.asked), b.keys)
	}
	if n := strings.Count(b.log.String(), "level=ERROR"); n != 1 || strings.Contains(b.log.String(), "level=WARN") {
		t.Errorf("log:\n%s\nwant one error", &b.log)
	}
}

func TestRestorerCannotCatchUp(t *testing.T) {
	t.Parallel()
	db := &forgetful{}
	b := newRestorerBed(t, db)
	b.deaf = auth.StorageUnavailable
	db.set(func() { db.recorded = true })
	b.run(t)
	<-b.paused
	b.again <- t0
	<-b.paused
	if err := b.Check(); err == nil || len(db.asked) != 0 || db.recordings != 0 {
		t.Errorf("Check() = %v, %d restorations, %d recordings; want an error, 0, 0", err, len(db.asked), db.recordings)
	}
}

func TestRestorerRun(t *testing.T) {
	t.Parallel()
	db := &forgetful{recorded: true}
	b := newRestorerBed(t, db)
	if err := b.Check(); err != nil || db.recordings != 1 {
		t.Fatalf("Check() = %v, %d recordings; want nil, 1", err, db.recordings)
	}
	for range session.MaxRestored + 1 {
		b.all = append(b.all, auth.Cutoff{Kind: auth.CutoffSession, Session: uuid.New(), Ver: 7})
	}
	b.all = append(b.all, auth.Cutoff{Kind: auth.CutoffApp, AppID: "wx1", Epoch: 3})
	db.down = auth.StorageUnavailable
	b.run(t)
	b.TimelineChanged()
	<-b.paused
	b.again <- t0
	<-b.paused
	db.set(func() { db.down = nil })
	b.again <- t0
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		db.mu.Lock()
		done := db.recordings == 2
		db.mu.Unlock()
		if done {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the history was not recorded")
		}
	}
	b.stop()
	if err := b.Check(); err != nil {
		t.Errorf("Check() = %v", err)
	}
	var got int
	for _, r := range db.asked[2:] { // the first two found the database down
		got += len(r.Remembered)
		if n := len(r.Remembered); n > session.MaxRestored || r.Event.Action != auth.AuditStoreRolledBack || r.Event.Actor != auth.ActorService {
			t.Errorf("%d cutoffs in one call, event %+v, want at most %d", n, r.Event, session.MaxRestored)
		}
	}
	if got != session.MaxRestored+2 || b.keys != 3 {
		t.Errorf("%d cutoffs restored and keys read %d times, want %d and 3", got, b.keys, session.MaxRestored+2)
	}
	if strings.Count(b.log.String(), "retrying") != 1 {
		t.Errorf("want one line with \"retrying\" in the log, got:\n%s", &b.log)
	}
}

func TestRestorerImplausible(t *testing.T) {
	t.Parallel()
	db := &forgetful{recorded: true, restored: session.Restored{Implausible: []auth.Cutoff{{Kind: auth.CutoffApp, AppID: "wx1", Epoch: 1 << 40}}}}
	b := newRestorerBed(t, db)
	b.all = []auth.Cutoff{{Kind: auth.CutoffApp, AppID: "wx1", Epoch: 1 << 40}}
	if err := b.RestoreAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if log := b.log.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "app=wx1") || !strings.Contains(log, "epoch=1099511627776") {
		t.Errorf("log:\n%s\nwant an error with the app and the epoch", log)
	}
}
