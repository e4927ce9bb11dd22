package sessiontest

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/db"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/cutoffs/cutoffstest"
	"github.com/yufu-auth/yufu/pkg/session"
)

// grace is the window of [Clocks].
const grace = time.Minute

// clockWorld is a real database whose clock and timeline, as its replicas read them, the
// test sets. The clock of the fixture is the true time.
type clockWorld struct {
	*Fixture
	db.Store
	t *testing.T
	// ahead is how far the database's clock is ahead of the true time.
	ahead     atomic.Int64
	timelines atomic.Int32
	away      atomic.Bool
}

// Cutoffs implements [cutoffs.Store].
func (w *clockWorld) Cutoffs(ctx context.Context, after int64, limit int) (cutoffs.Batch, error) {
	if w.away.Load() {
		return cutoffs.Batch{}, auth.StorageUnavailable
	}
	b, err := w.Store.Cutoffs(ctx, after, limit)
	b.Now = w.Clock.Now().Add(time.Duration(w.ahead.Load()))
	for range w.timelines.Load() {
		b.Timeline += "x"
	}
	return b, err
}

// clockReplica is a replica with its own clock.
type clockReplica struct {
	*cutoffs.Follower
	w       *clockWorld
	machine cutoffstest.Machine
	service *session.Service
}

// replica starts a replica whose clock is off. A careless one serves although
// [cutoffs.Follower.Check] returns an error.
func (w *clockWorld) replica(off time.Duration, careless bool) *clockReplica {
	w.t.Helper()
	r := &clockReplica{w: w}
	r.machine.Set(off)
	r.Follower = must(cutoffs.Open(w.t.Context(), cutoffs.Config{
		Store: w, MaxStaleness: MaxStaleness, Clock: w.Clock.Now, Wall: r.machine.Wall, Log: slog.New(slog.DiscardHandler),
	}))(w.t)
	c := w.Config
	c.Clock, c.TimelineChanged = r.Now, r.TimelineChangedWithin
	if !careless {
		c.CheckMayIssue = r.Check
	}
	r.service = must(session.NewService(c))(w.t)
	return r
}

func (r *clockReplica) login(code string) (session.Grant, error) {
	return r.service.Exchange(r.w.t.Context(), session.ExchangeRequest{ClientID: AppID, Code: auth.Secret(code)})
}

func (r *clockReplica) refresh(g session.Grant) (session.Grant, error) {
	return r.service.Refresh(r.w.t.Context(), session.RefreshRequest{ClientID: AppID, RefreshToken: g.RefreshToken})
}

// rotated logs a user in and refreshes. It returns both answers.
func (r *clockReplica) rotated() (first, second session.Grant) {
	r.w.t.Helper()
	first = must(r.login(r.w.Simulator.NewCode("alice")))(r.w.t)
	second = must(r.refresh(first))(r.w.t)
	return first, second
}

// wantReplay checks that the token yields its existing successor.
func (r *clockReplica) wantReplay(first, second session.Grant) {
	r.w.t.Helper()
	if got, err := r.refresh(first); err != nil || got.Verdict != session.Replay || got.Session.Generation != second.Session.Generation {
		r.w.t.Errorf("Refresh() = %v, generation %d, error %v; want a replay of generation %d", got.Verdict, got.Session.Generation, err, second.Session.Generation)
	}
}

// wantRefused checks that a refresh fails.
func (r *clockReplica) wantRefused(g session.Grant, want error) {
	r.w.t.Helper()
	if got, err := r.refresh(g); !errors.Is(err, want) || got.AccessToken != "" {
		r.w.t.Errorf("Refresh() error = %v, want %v", err, want)
	}
}

func (r *clockReplica) catchUp() {
	r.w.t.Helper()
	if err := r.CatchUp(r.w.t.Context()); err != nil {
		r.w.t.Fatal(err)
	}
}

// Clocks checks that no session ends because of a clock: neither a replica's clock that
// is off or is set, nor a database's clock that is set or is now that of another server.
// The service, the follower and the database are real; open returns a new, migrated
// database.
func Clocks(t *testing.T, open func(t *testing.T) db.Store) {
	t.Helper()
	run := func(name string, test func(t *testing.T, w *clockWorld)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := open(t)
			test(t, &clockWorld{
				Fixture: New(t, store, session.Lifetimes{Grace: grace, Idle: 24 * time.Hour, Max: 48 * time.Hour}), Store: store, t: t,
			})
		})
	}
	off := map[string]time.Duration{"an hour ahead": time.Hour, "an hour behind": -time.Hour}
	run("a replica whose clock is off grants nothing and ends nothing", func(t *testing.T, w *clockWorld) {
		right := w.replica(0, false)
		for name, by := range off {
			t.Log(name)
			wrong := w.replica(by, false)
			first, second := right.rotated()
			wrong.wantRefused(first, auth.StorageUnavailable)
			wrong.wantRefused(second, auth.StorageUnavailable)
			right.wantReplay(first, second)
			code := w.Simulator.NewCode("bob")
			if _, err := wrong.login(code); !errors.Is(err, auth.StorageUnavailable) {
				t.Errorf("Exchange() error = %v, want storage_unavailable", err)
			}
			if _, err := right.login(code); err != nil {
				t.Errorf("Exchange() of the same code elsewhere: error = %v", err)
			}
		}
	})
	run("a replica that serves although its clock is off judges as others do", func(t *testing.T, w *clockWorld) {
		right := w.replica(0, true)
		for name, by := range off {
			t.Log(name)
			wrong := w.replica(by, true)
			for _, pair := range [][2]*clockReplica{{right, wrong}, {wrong, right}} {
				first, second := pair[0].rotated()
				if want := w.Clock.Now(); !second.Session.RotatedAt.Equal(want) {
					t.Errorf("the row was rotated at %v, want %v", second.Session.RotatedAt, want)
				}
				w.Clock.Advance(grace)
				pair[1].wantReplay(first, second)
				w.Clock.Advance(time.Microsecond)
				pair[1].wantRefused(first, session.ErrReplayLate)
			}
		}
	})
	run("a replica whose clock is set stops at once and goes on once it is right", func(t *testing.T, w *clockWorld) {
		careful, careless := w.replica(0, false), w.replica(0, true)
		for name, by := range off {
			t.Log(name)
			first, second := careful.rotated()
			for _, r := range []*clockReplica{careful, careless} {
				r.machine.Set(by)
			}
			careful.wantRefused(first, auth.StorageUnavailable)
			careless.wantReplay(first, second)
			careful.catchUp()
			careless.catchUp()
			careful.wantRefused(first, auth.StorageUnavailable)
			careless.wantReplay(first, second)
			for _, r := range []*clockReplica{careful, careless} {
				r.machine.Set(-by)
				r.wantReplay(first, second)
			}
		}
	})
	run("for one window after the timeline changed, one generation behind is a replay", func(_ *testing.T, w *clockWorld) {
		r := w.replica(0, false)
		first, second := r.rotated()
		other, _ := r.rotated()
		stolen, next := r.rotated()
		must(r.refresh(next))(w.t)
		w.Clock.Advance(2 * grace)
		w.timelines.Add(1)
		r.catchUp()
		r.wantReplay(first, second)
		r.wantRefused(stolen, session.ErrReuse)
		w.Clock.Advance(grace)
		r.catchUp()
		r.wantReplay(first, second)
		w.Clock.Advance(time.Microsecond)
		r.wantRefused(other, session.ErrReplayLate)
	})
	run("while the database does not answer whether it is the same, one generation behind is a replay", func(_ *testing.T, w *clockWorld) {
		r := w.replica(0, true)
		first, second := r.rotated()
		w.away.Store(true)
		_ = r.CatchUp(w.t.Context())
		w.Clock.Advance(2 * grace)
		r.wantReplay(first, second)
		w.away.Store(false)
		r.catchUp()
		r.wantRefused(first, session.ErrReplayLate)
	})
	for name, by := range off {
		run("a database whose clock is suddenly "+name, func(_ *testing.T, w *clockWorld) {
			r := w.replica(0, false)
			first, second := r.rotated()
			w.ahead.Store(int64(by))
			r.wantReplay(first, second) // before the replica knows it
			r.catchUp()
			r.wantRefused(first, auth.StorageUnavailable)
			r.machine.Set(by) // as when NTP sets both clocks
			r.wantReplay(first, second)
			// An age that is or was negative is inside the window.
			third, err := r.refresh(second)
			if err != nil || third.Verdict != session.Rotate {
				w.t.Errorf("Refresh() = %v, error %v; want a rotation", third.Verdict, err)
			}
			r.wantReplay(second, third)
			r.wantRefused(first, session.ErrReuse)
		})
	}
}
