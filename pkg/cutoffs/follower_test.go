package cutoffs_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/cutoffs/cutoffstest"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	inBubble(t, "Open loads all live cutoffs in any number of pages", func(t *testing.T) {
		old := ended(1)
		time.Sleep(auth.CutoffRetention)
		const n = 2*cutoffs.PageSize + 7
		w := newWorld(t, append([]auth.Cutoff{old}, endedAll(2, n)...)...)
		w.wantKnown(false, 1)
		w.wantKnown(true, 2, cutoffs.PageSize, cutoffs.PageSize+1, n)
		w.wantAge(0)
	})
	inBubble(t, "Open loads every kind", func(t *testing.T) {
		w := newWorld(t, auth.AppRevoked("wx1", 3, time.Now()), auth.Cutoff{Kind: auth.CutoffKey, KID: "k"},
			auth.Cutoff{Kind: auth.CutoffSession, Session: sid(1), Ver: 5, ExpiresAt: time.Now().Add(time.Hour)})
		for token, hit := range map[cutoff.Token]bool{
			{App: "wx1", Epoch: 2}:               true,
			{App: "wx1", Epoch: 3}:               false,
			{KID: "k"}:                           true,
			{Session: sid(1).String(), Ver: 4}:   true,
			{Session: sid(1).String(), Ver: 5}:   false,
			{Session: sid(2).String(), Ver: 400}: false,
		} {
			if w.Set().Hits(token) != hit {
				t.Errorf("Hits(%+v) = %v, want %v", token, !hit, hit)
			}
		}
	})
	inBubble(t, "Open fails when the database does not answer", func(t *testing.T) {
		db := cutoffstest.New()
		db.Fail(auth.StorageUnavailable)
		if _, err := cutoffs.Open(t.Context(), config(db, time.Now, t.Output())); !errors.Is(err, auth.StorageUnavailable) {
			t.Errorf("error = %v, want %v", err, auth.StorageUnavailable)
		}
	})
}

func TestRun(t *testing.T) {
	t.Parallel()
	inBubble(t, "a notification makes a cutoff known at once", func(t *testing.T) {
		w := newWorld(t)
		w.run()
		w.db.Commit(ended(1))
		synctest.Wait() // without any time passing
		w.wantKnown(true, 1)
	})
	inBubble(t, "without notifications a cutoff is known within a second", func(t *testing.T) {
		w := newWorld(t)
		w.run()
		w.db.Mute(true)
		w.db.Commit(ended(1))
		synctest.Wait()
		w.wantKnown(false, 1)
		time.Sleep(cutoffs.PollInterval)
		synctest.Wait()
		w.wantKnown(true, 1)
	})
	inBubble(t, "a burst of notifications causes no burst of queries", func(t *testing.T) {
		w := newWorld(t)
		w.run()
		before := w.db.Questions()
		resume := w.db.Stall()
		w.db.Commit(ended(0))
		synctest.Wait() // a query is running
		for n := range 999 {
			w.db.Commit(ended(n + 1))
		}
		resume()
		synctest.Wait()
		w.wantKnown(true, 0, 500, 999)
		if asked := w.db.Questions() - before; asked != 2 {
			t.Errorf("%d queries, want 2", asked)
		}
	})
	inBubble(t, "a lost connection is made again, and polling bridges the gap", func(t *testing.T) {
		w := newWorld(t)
		w.run()
		for n := range 10 {
			w.db.Disconnect()
			w.db.Commit(ended(n)) // without a listener
			time.Sleep(cutoffs.PollInterval)
			synctest.Wait()
			w.wantKnown(true, n)
			time.Sleep(cutoffs.RelistenLate)
			synctest.Wait()
			if w.db.Listeners() != 1 {
				t.Fatalf("%d listeners, want 1", w.db.Listeners())
			}
		}
	})
	inBubble(t, "the age grows while the database is cut off and falls when it is back", func(t *testing.T) {
		w := newWorld(t)
		w.run()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		w.wantAge(0)
		w.db.Fail(auth.StorageUnavailable)
		w.db.Disconnect()
		time.Sleep(40 * time.Second)
		synctest.Wait()
		w.wantAge(40 * time.Second)
		if n := w.log.count("cutoff refresh failed"); n != 1 {
			t.Errorf("the failure was logged %d times, want 1", n)
		}
		w.db.Fail(nil)
		w.db.Commit(ended(1))
		time.Sleep(cutoffs.PollInterval)
		synctest.Wait()
		w.wantAge(0)
		w.wantKnown(true, 1)
		if n := w.log.count("cutoff refresh recovered"); n != 1 {
			t.Errorf("the recovery was logged %d times, want 1", n)
		}
	})
	inBubble(t, "the age counts from the start of the query", func(t *testing.T) {
		w := newWorld(t)
		time.Sleep(time.Minute)
		resume := w.db.Stall()
		var call sync.WaitGroup
		call.Go(w.catchUp)
		time.Sleep(2 * time.Second)
		resume()
		call.Wait()
		w.wantAge(2 * time.Second)
	})
	inBubble(t, "a query that hangs is cancelled and repeated", func(t *testing.T) {
		w := newWorld(t)
		w.run()
		resume := w.db.Stall()
		before := w.db.Questions()
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if n := w.db.Questions() - before; n < 8 || n > 11 {
			t.Errorf("%d queries in 30 s with a timeout of %v, want 8 to 11", n, cutoffs.AskTimeout)
		}
		resume()
		time.Sleep(cutoffs.AskTimeout + cutoffs.PollInterval)
		synctest.Wait()
		if age := w.Age(); age > cutoffs.PollInterval {
			t.Errorf("age = %v after the database is back", age)
		}
	})
	inBubble(t, "subscribers get a heartbeat every five seconds even without the database", func(t *testing.T) {
		w := newWorld(t)
		w.run()
		s := w.subscribe("")
		s.rest()
		defer w.db.Stall()()
		for last := time.Now(); w.Age() < time.Minute; {
			<-s.more
			for _, e := range s.rest() {
				if d := time.Since(last); e.Name != cutoff.EventHeartbeat || d > cutoff.HeartbeatInterval {
					t.Errorf("event = %s after %v, want a heartbeat at least every %v", brief(t, e), d, cutoff.HeartbeatInterval)
				}
				last = time.Now()
			}
		}
	})
	inBubble(t, "expired cutoffs are removed, and key cutoffs never are", func(t *testing.T) {
		w := newWorld(t, ended(1), auth.Cutoff{Kind: auth.CutoffKey, KID: "k"})
		w.run()
		time.Sleep(auth.CutoffRetention - time.Second)
		w.wantKnown(true, 1)
		w.db.Commit(ended(2))
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		w.wantKnown(false, 1)
		w.wantKnown(true, 2)
		s := w.subscribe("")
		wantEvents(t, s.rest()[:2], "cutoff k", "cutoff 2")
		time.Sleep(100 * auth.CutoffRetention)
		if !w.Set().Hits(cutoff.Token{KID: "k"}) {
			t.Error("the key cutoff was removed")
		}
	})
	inBubble(t, "the end of Run ends subscriptions and leaves nothing running", func(t *testing.T) {
		w := newWorld(t)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { w.Run(ctx) })
		s := w.subscribe("")
		s.rest()
		w.db.Stall() // a running query does not delay the end
		time.Sleep(cutoffs.PollInterval)
		began := time.Now()
		stop()
		running.Wait()
		if d := time.Since(began); d != 0 {
			t.Errorf("duration = %v, want 0", d)
		}
		if !isClosed(s.more) {
			t.Error("the subscriber was not woken")
		}
		if s.rest(); !errors.Is(s.err, cutoffs.ErrClosed) {
			t.Errorf("error %v, want ErrClosed", s.err)
		}
		if w.db.Listeners() != 0 {
			t.Error("a listener is still running")
		}
	})
}

func TestCatchUp(t *testing.T) {
	t.Parallel()
	inBubble(t, "CatchUp waits for earlier commits even if a query is running", func(t *testing.T) {
		w := newWorld(t)
		resume := w.db.Stall()
		var calls sync.WaitGroup
		calls.Go(w.catchUp)
		synctest.Wait() // the query has started
		w.db.Commit(ended(1))
		calls.Go(func() {
			w.catchUp()
			w.wantKnown(true, 1)
		})
		synctest.Wait()
		resume()
		calls.Wait()
	})
	inBubble(t, "concurrent calls share a query", func(t *testing.T) {
		w := newWorld(t)
		before := w.db.Questions()
		resume := w.db.Stall()
		var calls sync.WaitGroup
		calls.Go(w.catchUp)
		synctest.Wait()
		for n := range 500 {
			w.db.Commit(ended(n))
			calls.Go(func() {
				w.catchUp()
				w.wantKnown(true, n)
			})
		}
		synctest.Wait()
		resume()
		calls.Wait()
		if n := w.db.Questions() - before; n != 2 {
			t.Errorf("%d queries, want 2", n)
		}
	})
	inBubble(t, "concurrent calls share a failure and do not wait for each other", func(t *testing.T) {
		w := newWorld(t)
		defer w.db.Stall()()
		began := time.Now()
		var calls sync.WaitGroup
		for range 100 {
			calls.Go(func() {
				if err := w.CatchUp(t.Context()); !errors.Is(err, auth.StorageUnavailable) {
					t.Errorf("error = %v, want %v", err, auth.StorageUnavailable)
				}
			})
		}
		calls.Wait()
		if d := time.Since(began); d > 2*cutoffs.AskTimeout {
			t.Errorf("duration = %v, want at most %v", d, 2*cutoffs.AskTimeout)
		}
	})
	inBubble(t, "a caller that gives up does not affect other callers", func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancel(t.Context())
		var calls sync.WaitGroup
		first := w.db.Stall()
		calls.Go(w.catchUp)
		synctest.Wait()
		second := w.db.Stall()
		calls.Go(func() { // makes the next query, for the calls from now on
			if err := w.CatchUp(ctx); err != context.Canceled { //nolint:errorlint // not wrapped
				t.Errorf("CatchUp() error = %v, want context.Canceled, not wrapped", err)
			}
		})
		synctest.Wait()
		for range 10 {
			calls.Go(w.catchUp)
		}
		synctest.Wait()
		first()
		synctest.Wait()
		cancel()
		synctest.Wait()
		second()
		calls.Wait()
	})
	inBubble(t, "a caller that gives up does not wait for the answer", func(t *testing.T) {
		w := newWorld(t)
		defer w.db.Stall()()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		var calls sync.WaitGroup
		for range 2 { // one queries, one waits
			calls.Go(func() {
				if err := w.CatchUp(ctx); err != context.DeadlineExceeded { //nolint:errorlint // not wrapped
					t.Errorf("CatchUp() error = %v, want context.DeadlineExceeded, not wrapped", err)
				}
			})
		}
		calls.Wait()
		if d := time.Since(began); d != time.Second {
			t.Errorf("duration = %v, want 1 s", d)
		}
	})
	inBubble(t, "a catch-up that fails half way does not lower the age", func(t *testing.T) {
		db := cutoffstest.New()
		failing := &failsAfter{Store: db, left: 1}
		f, err := cutoffs.Open(t.Context(), config(failing, time.Now, t.Output()))
		if err != nil {
			t.Fatal(err)
		}
		w := &world{t: t, db: db, Follower: f}
		db.Commit(endedAll(1, cutoffs.PageSize+1)...)
		time.Sleep(time.Minute)
		failing.left = 1
		if err := w.CatchUp(t.Context()); !errors.Is(err, auth.StorageUnavailable) {
			t.Fatalf("error = %v, want %v", err, auth.StorageUnavailable)
		}
		w.wantKnown(true, 1, cutoffs.PageSize)
		w.wantAge(time.Minute)
		failing.left = 1
		w.catchUp()
		w.wantKnown(true, cutoffs.PageSize+1)
		w.wantAge(0)
	})
}

func TestAnotherDatabase(t *testing.T) {
	t.Parallel()
	inBubble(t, "a new timeline is loaded again, and old cutoffs stay known", func(t *testing.T) {
		w := newWorld(t, endedAll(1, 5)...)
		w.run()
		s := w.subscribe("")
		wantEvents(t, s.rest(), "cutoff 1", "cutoff 2", "cutoff 3", "cutoff 4", "cutoff 5", "ready 0ms @t1.5")
		// The dump is from before 4 and 5, and 6 came after the restore.
		w.db.Restore(append(endedAll(1, 3), ended(6))...)
		synctest.Wait()
		w.wantKnown(true, 1, 2, 3, 4, 5, 6)
		if !isClosed(s.more) {
			t.Error("the subscriber was not woken")
		}
		want := []string{"cutoff 4", "cutoff 5", "cutoff 1", "cutoff 2", "cutoff 3", "cutoff 6", "ready 0ms @t2.4"}
		wantEvents(t, s.rest(), append([]string{"reset"}, want...)...)
		// New subscribers get the old cutoffs too.
		wantEvents(t, w.subscribe("").rest(), want...)
		w.db.Commit(ended(7))
		synctest.Wait()
		wantEvents(t, s.rest(), "cutoff 7 @t2.5")
		// The same again.
		w.db.Restore()
		synctest.Wait()
		w.wantKnown(true, 1, 4, 6, 7)
		wantEvents(t, s.rest(), "reset", "cutoff 4", "cutoff 5", "cutoff 1", "cutoff 2", "cutoff 3", "cutoff 6", "cutoff 7", "ready 0ms @t3.0")
		if n := w.log.count("database timeline changed"); n != 2 {
			t.Errorf("the change was logged %d times, want 2", n)
		}
	})
	inBubble(t, "ids that went back are a new timeline, even with the same name", func(t *testing.T) {
		w := newWorld(t, endedAll(1, 5)...)
		w.run()
		w.db.RollBack(3)
		w.db.Commit(ended(6)) // with the id of 4
		synctest.Wait()
		w.wantKnown(true, 1, 2, 3, 4, 5, 6)
		wantEvents(t, w.subscribe("").rest(), "cutoff 4", "cutoff 5", "cutoff 1", "cutoff 2", "cutoff 3", "cutoff 6", "ready 0ms @t1.4")
	})
	inBubble(t, "a new timeline is sent completely or not at all", func(t *testing.T) {
		db := cutoffstest.New()
		db.Commit(ended(1))
		failing := &failsAfter{Store: db, left: 1}
		f, err := cutoffs.Open(t.Context(), config(failing, time.Now, t.Output()))
		if err != nil {
			t.Fatal(err)
		}
		w := &world{t: t, db: db, Follower: f}
		s := w.subscribe("")
		s.rest()
		db.Restore(endedAll(2, 2*cutoffs.PageSize)...)
		failing.left = 2 // the answer with the new timeline, and the first page
		if err := w.CatchUp(t.Context()); !errors.Is(err, auth.StorageUnavailable) {
			t.Fatalf("error = %v, want %v", err, auth.StorageUnavailable)
		}
		wantEvents(t, s.rest())
		w.wantKnown(true, 2, cutoffs.PageSize) // this process knows them at once
		failing.left = 100
		w.catchUp()
		if got := s.rest(); len(got) != 2*cutoffs.PageSize+2 || got[0].Name != cutoff.EventReset || got[len(got)-1].Name != cutoff.EventReady {
			t.Errorf("%d events, want two pages between reset and ready", len(got))
		}
	})
	inBubble(t, "a new timeline with every answer ends the attempt", func(t *testing.T) {
		db := cutoffstest.New()
		f, err := cutoffs.Open(t.Context(), config(&flutters{Store: db}, time.Now, t.Output()))
		if err == nil {
			err = f.CatchUp(t.Context())
		}
		if !errors.Is(err, auth.StorageUnavailable) {
			t.Errorf("error = %v, want %v", err, auth.StorageUnavailable)
		}
	})
}

// failsAfter answers some queries and then fails.
type failsAfter struct {
	*cutoffstest.Store
	left int
}

func (f *failsAfter) Cutoffs(ctx context.Context, after int64, limit int) (cutoffs.Batch, error) {
	if f.left--; f.left < 0 {
		return cutoffs.Batch{}, auth.StorageUnavailable
	}
	return f.Store.Cutoffs(ctx, after, limit)
}

// flutters has another timeline with every answer.
type flutters struct{ *cutoffstest.Store }

func (f *flutters) Cutoffs(ctx context.Context, after int64, limit int) (cutoffs.Batch, error) {
	defer f.Restore()
	return f.Store.Cutoffs(ctx, after, limit)
}
