package cutoffs_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/cutoffs/cutoffstest"
)

// clocks are those of a replica and its database. In the bubble, time.Now is the true time.
type clocks struct {
	*world
	machine cutoffstest.Machine
	// dbAhead is how far the database's clock is ahead of the true time.
	dbAhead atomic.Int64
	// before and after are called during a query before and after the database reads
	// its clock. They are for tests without another caller.
	before, after func()
}

func newClocks(t *testing.T, dbAhead time.Duration, loaded ...auth.Cutoff) *clocks {
	t.Helper()
	c := &clocks{}
	c.dbAhead.Store(int64(dbAhead))
	db := cutoffstest.New()
	db.Commit(loaded...)
	db.Clock = func() time.Time {
		if c.before != nil {
			c.before()
		}
		return c.dbTime()
	}
	c.world = &world{t: t, db: db, log: &logLines{}}
	conf := config(&answersLater{db, c}, time.Now, c.log)
	conf.Wall = c.machine.Wall
	var err error
	if c.Follower, err = cutoffs.Open(t.Context(), conf); err != nil {
		t.Fatal(err)
	}
	return c
}

// dbTime returns the time by the database's clock.
func (c *clocks) dbTime() time.Time { return time.Now().Round(0).Add(time.Duration(c.dbAhead.Load())) }

// answersLater is a database whose answers take as long as the test says.
type answersLater struct {
	*cutoffstest.Store
	c *clocks
}

func (a *answersLater) Cutoffs(ctx context.Context, after int64, limit int) (cutoffs.Batch, error) {
	b, err := a.Store.Cutoffs(ctx, after, limit)
	if a.c.after != nil {
		a.c.after()
	}
	return b, err
}

// wantNow checks that Now is the database's time, off by the unavoidable error.
func (c *clocks) wantNow(off time.Duration) {
	c.t.Helper()
	want := c.dbTime().Add(off).UTC()
	if got := c.Now(); got != want {
		c.t.Errorf("Now() = %v, which is off by %v; want off by %v", got, got.Sub(want)+off, off)
	}
}

// wantFit checks that the replica may grant tokens.
func (c *clocks) wantFit() {
	c.t.Helper()
	if err := c.Check(); err != nil {
		c.t.Errorf("Check() error = %v, want nil", err)
	}
}

// wantUnfit checks that Check returns a reason with the text.
func (c *clocks) wantUnfit(reason string) {
	c.t.Helper()
	if err := c.Check(); !errors.Is(err, auth.StorageUnavailable) || !strings.Contains(err.Error(), reason) {
		c.t.Errorf("Check() error = %v, want storage_unavailable with %q", err, reason)
	}
}

func TestNow(t *testing.T) {
	t.Parallel()
	inBubble(t, "Now is the database's time for any error of this machine's clock", func(t *testing.T) {
		for ahead, reason := range map[time.Duration]string{
			0:                        "",
			2 * time.Second:          "",
			-2 * time.Second:         "",
			2001 * time.Millisecond:  "this machine's clock is 2s behind the database's; synchronise both with NTP",
			-2500 * time.Millisecond: "this machine's clock is 2.5s ahead of the database's; synchronise both with NTP",
			time.Hour:                "1h0m0s behind",
			-365 * 24 * time.Hour:    "8760h0m0s ahead of",
		} {
			c := newClocks(t, ahead)
			for range 3 {
				c.wantNow(0)
				if got := c.ClockAhead(); got != -ahead {
					t.Errorf("ClockAhead() = %v, want %v", got, -ahead)
				}
				if reason == "" {
					c.wantFit()
				} else {
					c.wantUnfit(reason)
				}
				time.Sleep(time.Second) // without a query
			}
		}
	})
	inBubble(t, "Now is this machine's time if after a slow query the clocks may agree", func(t *testing.T) {
		const slow = 2500 * time.Millisecond
		c := newClocks(t, slow)
		c.after = func() { time.Sleep(slow) }
		c.catchUp()
		c.wantNow(-slow)
		c.wantFit()
		c = newClocks(t, -slow)
		c.before = func() { time.Sleep(slow) }
		c.catchUp()
		c.wantNow(slow)
		c.wantFit()
	})
	inBubble(t, "after a slow query Now is as near to this machine's time as possible", func(t *testing.T) {
		const slow = 2 * time.Second
		c := newClocks(t, 10*time.Second)
		c.after = func() { time.Sleep(slow) }
		c.catchUp()
		c.wantNow(-slow)
		c.wantUnfit("8s behind")
		c.after = nil
		c.catchUp()
		c.wantNow(0)
		c.wantUnfit("10s behind")
		c = newClocks(t, -10*time.Second)
		c.before = func() { time.Sleep(slow) }
		c.catchUp()
		c.wantNow(slow)
		c.wantUnfit("8s ahead of")
	})
	inBubble(t, "Now does not change when this machine's clock is set", func(t *testing.T) {
		for by, reason := range map[time.Duration]string{
			time.Hour:        "1h0m0s ahead of",
			-time.Hour:       "1h0m0s behind",
			1 * time.Second:  "",
			-2 * time.Second: "",
		} {
			wants := func(c *clocks) {
				t.Helper()
				c.wantNow(0)
				if reason == "" {
					c.wantFit()
				} else {
					c.wantUnfit(reason)
				}
			}
			// Between two queries: Check detects it at once.
			c := newClocks(t, 0)
			time.Sleep(500 * time.Millisecond)
			c.machine.Set(by)
			wants(c)
			c.catchUp()
			wants(c)
			c.machine.Set(-by)
			c.wantNow(0)
			c.wantFit()
			// During a query, before and after the database reads its clock.
			c.before = func() { c.machine.Set(by) }
			c.catchUp()
			wants(c)
			c.machine.Set(-by)
			c.before, c.after = nil, func() { c.machine.Set(by) }
			c.catchUp()
			wants(c)
			if c.TimelineChangedWithin(time.Hour) {
				t.Error("TimelineChangedWithin() = true, want false")
			}
		}
	})
	inBubble(t, "Now advances while the database is away, but is unreliable after a while", func(t *testing.T) {
		c := newClocks(t, time.Second)
		c.db.Fail(auth.StorageUnavailable)
		time.Sleep(maxStaleness)
		c.wantFit()
		time.Sleep(time.Nanosecond)
		c.wantUnfit("could not be compared")
		time.Sleep(time.Hour)
		c.wantNow(0)
		c.wantUnfit("could not be compared")
		c.db.Fail(nil)
		c.catchUp()
		c.wantFit()
	})
	inBubble(t, "Now is unreliable when a clock without a monotonic reading went back", func(t *testing.T) {
		at := time.Now().Round(0)
		w := openWorld(t, cutoffstest.New(), func() time.Time { return at })
		if err := w.Check(); err != nil {
			t.Errorf("Check() error = %v, want nil", err)
		}
		at = at.Add(-time.Nanosecond)
		if err := w.Check(); !errors.Is(err, auth.StorageUnavailable) {
			t.Errorf("Check() error = %v, want storage_unavailable", err)
		}
	})
	inBubble(t, "validators get the time", func(t *testing.T) {
		c := newClocks(t, time.Hour)
		time.Sleep(2 * time.Second)
		want := time.Now().Add(time.Hour).UTC()
		if p := c.Page("", 1, cutoffs.Subscriber{}); !p.Now.Equal(want) || p.AgeMS != 2000 {
			t.Errorf("page: now = %v, age = %d ms; want %v and 2000 ms", p.Now, p.AgeMS, want)
		}
		events := c.subscribe("").rest()
		h, err := cutoff.ParseHeartbeat(events[len(events)-1].Data)
		if err != nil || !h.Now.Equal(want) || h.AgeMS != 2000 {
			t.Errorf("stream: now = %v, age = %d ms, error = %v; want %v and 2000 ms", h.Now, h.AgeMS, err, want)
		}
	})
}

func TestLatest(t *testing.T) {
	t.Parallel()
	want := func(c *clocks, off time.Duration) {
		c.t.Helper()
		if got := time.Until(c.Latest()); got != off {
			c.t.Errorf("Latest() is ahead of the true time by %v, want %v", got, off)
		}
	}
	inBubble(t, "Latest does not go back when the database's clock is set back", func(t *testing.T) {
		c := newClocks(t, time.Second)
		want(c, time.Second)
		c.dbAhead.Store(int64(-time.Hour))
		for range 3 {
			c.catchUp()
			want(c, time.Second)
			c.wantNow(0)
			time.Sleep(time.Minute)
		}
		c.machine.Set(-time.Hour) // as when NTP sets both clocks
		c.catchUp()
		want(c, -time.Hour)
	})
	inBubble(t, "Latest is the database's time only while its clock is set forward", func(t *testing.T) {
		c := newClocks(t, 0)
		c.dbAhead.Store(int64(time.Hour))
		c.catchUp()
		want(c, time.Hour)
		c.dbAhead.Store(int64(-time.Second))
		c.catchUp()
		want(c, -time.Second)
	})
	inBubble(t, "Latest is the database's time if the clocks never agreed", func(t *testing.T) {
		c := newClocks(t, time.Hour)
		want(c, time.Hour)
		c.dbAhead.Store(int64(-time.Hour))
		c.catchUp()
		want(c, -time.Hour)
	})
	inBubble(t, "Latest does not change when this machine's clock is set", func(t *testing.T) {
		c := newClocks(t, 0)
		for _, by := range []time.Duration{time.Hour, -2 * time.Hour} {
			c.machine.Set(by)
			want(c, 0)
			c.catchUp()
			want(c, 0)
		}
	})
}

func TestCutoffsExpireLate(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]struct{ db, machine time.Duration }{
		"this machine's clock is ahead":       {0, 2 * auth.CutoffRetention},
		"the database's clock is ahead":       {2 * auth.CutoffRetention, 0},
		"this machine's clock is behind":      {0, -2 * auth.CutoffRetention},
		"the database's clock is behind":      {-2 * auth.CutoffRetention, 0},
		"both are ahead by different amounts": {auth.CutoffRetention / 4, auth.CutoffRetention / 2},
	} {
		inBubble(t, name, func(t *testing.T) {
			c := newClocks(t, ahead.db)
			c.machine.Set(ahead.machine)
			c.db.Commit(ended(1))
			c.catchUp()
			c.wantKnown(true, 1)
			c.run()
			time.Sleep(2 * time.Minute) // expired cutoffs are pruned meanwhile
			synctest.Wait()
			c.wantKnown(true, 1)
			if p := c.Page("", 10, cutoffs.Subscriber{}); len(p.Cutoffs) != 1 {
				t.Errorf("the page has %d cutoffs, want 1", len(p.Cutoffs))
			}
		})
	}
}

func TestTimelineChangedWithin(t *testing.T) {
	t.Parallel()
	const grace = time.Minute
	wants := func(c *clocks, want bool) {
		c.t.Helper()
		if got := c.TimelineChangedWithin(grace); got != want {
			c.t.Errorf("TimelineChangedWithin() = %v, want %v", got, want)
		}
	}
	for name, move := range map[string]func(c *clocks){
		"a database whose timeline changed":     func(c *clocks) { c.db.Restore() },
		"a database whose ids went back":        func(c *clocks) { c.db.RollBack(0) },
		"a database whose clock is set forward": func(c *clocks) { c.dbAhead.Add(int64(time.Hour)) },
		"a database whose clock is set back":    func(c *clocks) { c.dbAhead.Add(-int64(time.Hour)) },
	} {
		inBubble(t, name, func(t *testing.T) {
			c := newClocks(t, 0, ended(1))
			c.run()
			time.Sleep(time.Hour)
			wants(c, false)
			move(c)
			c.catchUp()
			moved := time.Now()
			wants(c, true)
			c.machine.Set(time.Hour) // which must not end the window
			wants(c, true)
			time.Sleep(time.Until(moved.Add(grace)))
			wants(c, true)
			time.Sleep(time.Nanosecond)
			wants(c, false)
		})
	}
	inBubble(t, "a database that does not answer may have changed its timeline", func(t *testing.T) {
		c := newClocks(t, 0)
		c.run()
		c.db.Fail(auth.StorageUnavailable)
		time.Sleep(10 * grace)
		synctest.Wait()
		wants(c, true)
		c.db.Fail(nil)
		c.catchUp()
		wants(c, false)
	})
	inBubble(t, "a timeline counts as new before it is loaded", func(t *testing.T) {
		db := cutoffstest.New()
		failing := &failsAfter{Store: db, left: 1}
		f, err := cutoffs.Open(t.Context(), config(failing, time.Now, t.Output()))
		if err != nil {
			t.Fatal(err)
		}
		db.Restore()
		failing.left = 1 // the answer with the new timeline
		if err := f.CatchUp(t.Context()); err == nil {
			t.Fatal("CatchUp() error = nil, want an error")
		}
		failing.left = 100
		if err := f.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(grace)
		if !f.TimelineChangedWithin(grace) {
			t.Error("TimelineChangedWithin() = false, want true for a grace period")
		}
	})
	inBubble(t, "a slow query is not a change of the timeline", func(t *testing.T) {
		c := newClocks(t, 0)
		for range 5 {
			c.before = func() { time.Sleep(2500 * time.Millisecond) }
			c.catchUp()
			c.before, c.after = nil, c.before
			c.catchUp()
			c.after = nil
		}
		wants(c, false)
	})
}

func TestAnotherDeployment(t *testing.T) {
	t.Parallel()
	inBubble(t, "another deployment teaches nothing and stops grants until the right one is back", func(t *testing.T) {
		c := newClocks(t, 0, ended(1))
		c.run()
		id := c.Deployment()
		back := c.db.Replace(ended(2))
		c.dbAhead.Store(int64(time.Hour))
		synctest.Wait()
		if err := c.CatchUp(t.Context()); !errors.Is(err, auth.StorageUnavailable) {
			t.Errorf("CatchUp() error = %v, want storage_unavailable", err)
		}
		c.wantKnown(true, 1)
		c.wantKnown(false, 2)
		c.wantUnfit("another deployment")
		c.wantNow(-time.Hour) // not by the other database's clock
		if c.Deployment() != id {
			t.Errorf("Deployment() = %v, want the first one, %v", c.Deployment(), id)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if age := c.Age(); age < 10*time.Second {
			t.Errorf("Age() = %v, want at least 10 s", age)
		}
		back()
		c.dbAhead.Store(0)
		c.catchUp()
		c.wantFit()
		c.wantNow(0)
		c.wantKnown(false, 2)
		wantEvents(t, c.subscribe("").rest(), "cutoff 1", "ready 0ms @t1.1")
	})
	inBubble(t, "a copy of the database is not another deployment", func(t *testing.T) {
		c := newClocks(t, 0, ended(1))
		c.db.Restore(ended(2))
		c.catchUp()
		c.wantFit()
		c.wantKnown(true, 1, 2)
	})
}
