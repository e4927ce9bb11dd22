package cutoffs_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/cutoffs/cutoffstest"
)

func TestSubscription(t *testing.T) {
	t.Parallel()
	inBubble(t, "begins with a snapshot and goes on with what comes", func(t *testing.T) {
		w := newWorld(t, ended(1), auth.AppRevoked("wx1", 2, time.Now()))
		s := w.subscribe("")
		wantEvents(t, s.rest(), "cutoff 1", "cutoff wx1/2", "ready 0ms @t1.2")
		wantEvents(t, s.rest())
		w.db.Commit(ended(3), ended(4))
		w.catchUp()
		if !isClosed(s.more) {
			t.Error("it was not woken")
		}
		wantEvents(t, s.rest(), "cutoff 3 @t1.3", "cutoff 4 @t1.4")
		time.Sleep(1234 * time.Millisecond)
		w.Beat()
		wantEvents(t, s.rest(), "heartbeat 1234ms")
		wantEvents(t, s.rest())
	})
	inBubble(t, "of an empty feed is ready at once, and can be resumed", func(t *testing.T) {
		w := newWorld(t)
		wantEvents(t, w.subscribe("").rest(), "ready 0ms @t1.0")
		w.db.Commit(ended(1))
		w.catchUp()
		wantEvents(t, w.subscribe("t1.0").rest(), "cutoff 1 @t1.1", "ready 0ms @t1.1")
	})
	inBubble(t, "resumes after the id that was seen last", func(t *testing.T) {
		w := newWorld(t, endedAll(1, 5)...)
		wantEvents(t, w.subscribe("t1.3").rest(), "cutoff 4 @t1.4", "cutoff 5 @t1.5", "ready 0ms @t1.5")
		wantEvents(t, w.subscribe("t1.5").rest(), "ready 0ms @t1.5")
	})
	t.Run("resets", func(t *testing.T) {
		t.Parallel()
		for name, id := range map[string]string{
			"an id ahead": "t1.6", "an id of another timeline": "t0.3", "a forgotten id": "t1.1", "no id": "x", "no number": "t1.",
			"another spelling": "t1.03", "a sign": "t1.+3", "space": "t1. 3", "too great a number": "t1.9223372036854775808",
			"much": strings.Repeat("t1.", 1000),
		} {
			inBubble(t, name, func(t *testing.T) {
				early := endedAll(1, 2)
				for i := range early {
					early[i].ExpiresAt = time.Now().Add(time.Minute)
				}
				w := newWorld(t, append(early, endedAll(3, 5)...)...)
				time.Sleep(time.Minute)
				w.Prune(time.Now())
				w.catchUp()
				wantEvents(t, w.subscribe(id).rest(), "reset", "cutoff 3", "cutoff 4", "cutoff 5", "ready 0ms @t1.5")
			})
		}
	})
	inBubble(t, "resumes where forgetting ended", func(t *testing.T) {
		w := newWorld(t, ended(1))
		time.Sleep(auth.CutoffRetention)
		w.db.Commit(ended(2))
		w.catchUp()
		w.Prune(time.Now())
		wantEvents(t, w.subscribe("t1.1").rest(), "cutoff 2 @t1.2", "ready 0ms @t1.2")
	})
	inBubble(t, "resumes at a replica that never saw the expired", func(t *testing.T) {
		old := ended(1)
		time.Sleep(auth.CutoffRetention)
		w := newWorld(t, old)
		wantEvents(t, w.subscribe("t1.1").rest(), "ready 0ms @t1.1")
	})
	inBubble(t, "hands a large snapshot out in pieces, with nothing between them and nothing left out", func(t *testing.T) {
		const n = 5000
		w := newWorld(t, endedAll(1, n)...)
		s := w.subscribe("")
		var all []cutoff.Event
		pieces := 0
		for s.more == nil || isClosed(s.more) {
			var b []byte
			b, s.more, s.err = s.sub.Next(nil)
			if len(b) > cutoffs.ChunkSize+1024 {
				t.Errorf("a piece of %d bytes", len(b))
			}
			all = append(all, parse(t, b)...)
			if pieces++; pieces == 3 {
				w.db.Commit(ended(n + 1)) // in the middle
				w.catchUp()
				w.Beat()
			}
		}
		if len(all) != n+2 || brief(t, all[n]) != fmt.Sprintf("cutoff %d", n+1) || brief(t, all[n+1]) != fmt.Sprintf("ready 0ms @t1.%d", n+1) {
			t.Errorf("%d events, the last are %s and %s", len(all), brief(t, all[n]), brief(t, all[len(all)-1]))
		}
		if pieces < 5 {
			t.Errorf("%d pieces", pieces)
		}
		for i, e := range all[:n] {
			if got, want := brief(t, e), fmt.Sprintf("cutoff %d", i+1); got != want {
				t.Fatalf("event %q, want %q", got, want)
			}
		}
	})
	inBubble(t, "hands a large burst out in pieces too, and they can be resumed anywhere", func(t *testing.T) {
		const n = 3000
		w := newWorld(t)
		s := w.subscribe("")
		s.rest()
		w.db.Commit(endedAll(1, n)...)
		w.catchUp()
		w.Beat()
		first := s.next()
		if !isClosed(s.more) || len(first) >= n {
			t.Fatalf("%d events at once", len(first))
		}
		last := first[len(first)-1]
		rest := w.subscribe(last.ID).rest()
		if got := len(first) + len(rest); got != n+1 {
			t.Errorf("%d events with the resumed ones, want all and ready: %d", got, n+1)
		}
		more := s.rest()
		if got := brief(t, more[len(more)-1]); got != "heartbeat 0ms" {
			t.Errorf("the last is %q", got)
		}
	})
	inBubble(t, "begins anew in the middle of a snapshot when the database is another one", func(t *testing.T) {
		w := newWorld(t, endedAll(1, 2000)...)
		s := w.subscribe("")
		s.next()
		w.db.Restore(ended(3000))
		w.catchUp()
		rest := s.rest()
		if rest[0].Name != cutoff.EventReset || len(rest) != 2000+3 {
			t.Errorf("%d events, the first %s", len(rest), rest[0].Name)
		}
	})
}

func TestPage(t *testing.T) {
	t.Parallel()
	inBubble(t, "pages follow one another, and only the last vouches", func(t *testing.T) {
		w := newWorld(t, endedAll(1, 5)...)
		time.Sleep(time.Second)
		var got []string
		after := ""
		for _, last := range []bool{false, false, true, true} {
			p := w.Page(after, 2, cutoffs.Subscriber{})
			for _, c := range p.Cutoffs {
				got = append(got, briefCutoff(t, c))
			}
			age := time.Duration(p.AgeMS) * time.Millisecond
			if last != (age == time.Second) || last == (age > maxStaleness) || p.MaxStalenessMS != maxStaleness.Milliseconds() || !p.Now.Equal(time.Now()) {
				t.Errorf("after %q: age %v, now %v, max %d ms", after, age, p.Now, p.MaxStalenessMS)
			}
			after = p.Next
		}
		if want := []string{"1", "2", "3", "4", "5"}; !slices.Equal(got, want) || after != "t1.5" {
			t.Errorf("%q and then %q, want %q", got, after, want)
		}
		w.db.Commit(ended(6))
		w.catchUp()
		wantPage(t, w.Page(after, 2, cutoffs.Subscriber{}), "t1.6", "6")
		wantEvents(t, w.subscribe(after).rest(), "cutoff 6 @t1.6", "ready 0ms @t1.6")
	})
	inBubble(t, "an id that cannot be resumed begins with the first", func(t *testing.T) {
		w := newWorld(t, endedAll(1, 2)...)
		for _, after := range []string{"", "t0.1", "t1.9", "x"} {
			wantPage(t, w.Page(after, 10, cutoffs.Subscriber{}), "t1.2", "1", "2")
		}
	})
	inBubble(t, "what another database forgot is on the pages too", func(t *testing.T) {
		w := newWorld(t, endedAll(1, 3)...)
		w.db.Restore(ended(4), ended(5))
		w.catchUp()
		var got []string
		after := "t1.3"
		for range 5 {
			p := w.Page(after, 1, cutoffs.Subscriber{})
			for _, c := range p.Cutoffs {
				got = append(got, briefCutoff(t, c))
			}
			after = p.Next
		}
		if want := []string{"1", "2", "3", "4", "5"}; !slices.Equal(got, want) || after != "t2.2" {
			t.Errorf("%q and then %q, want %q", got, after, want)
		}
		// Whoever listens from the middle of them on is not sent back.
		p := w.Page("", 2, cutoffs.Subscriber{})
		wantEvents(t, w.subscribe(p.Next).rest(), "cutoff 3", "cutoff 4 @t2.1", "cutoff 5 @t2.2", "ready 0ms @t2.2")
	})
	inBubble(t, "without a cutoff is an empty list, not null", func(t *testing.T) {
		w := newWorld(t)
		for _, limit := range []int{-1, 0, 1} {
			if p := w.Page("", limit, cutoffs.Subscriber{}); p.Cutoffs == nil || p.Next != "t1.0" {
				t.Errorf("%+v", p)
			}
		}
	})
}

func wantPage(t *testing.T, p cutoff.Page, next string, want ...string) {
	t.Helper()
	var got []string
	for _, c := range p.Cutoffs {
		got = append(got, briefCutoff(t, c))
	}
	if !slices.Equal(got, want) || p.Next != next {
		t.Errorf("page %q and then %q, want %q and %q", got, p.Next, want, next)
	}
}

// TestNothingIsVouchedForTooEarly lets everything happen in any order, and holds
// each ready, heartbeat and page against what was committed by then.
func TestNothingIsVouchedForTooEarly(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newFeedModel(t)
			for range 60 {
				m.step(rapid.IntRange(0, 99).Draw(rt, "step"), rt)
				if t.Failed() {
					return
				}
			}
		})
	})
}

// feedModel knows when each session was revoked, and what each follower of the
// feed was told.
type feedModel struct {
	*world
	n         int
	committed map[string]time.Time
	followers []*listener
}

// listener is a validator: it keeps the union, and the last id it was given.
type listener struct {
	*subscriber
	told map[string]bool
	last string
}

func newFeedModel(t *testing.T) *feedModel {
	return &feedModel{world: openWorld(t, cutoffstest.New(), time.Now), committed: map[string]time.Time{}}
}

func (m *feedModel) step(dice int, rt *rapid.T) {
	switch {
	case dice < 25:
		var list []auth.Cutoff
		for range rapid.SampledFrom([]int{1, 1, 1, 1, 3, 700}).Draw(rt, "cutoffs") {
			m.n++
			m.committed[fmt.Sprint(m.n)] = time.Now()
			list = append(list, ended(m.n))
		}
		m.db.Commit(list...)
	case dice < 40:
		m.catchUp()
	case dice < 55:
		time.Sleep(time.Duration(rapid.IntRange(1, 2000).Draw(rt, "ms")) * time.Millisecond)
	case dice < 65:
		m.Beat()
	case dice < 75 || len(m.followers) == 0:
		m.followers = append(m.followers, &listener{subscriber: m.subscribe(""), told: map[string]bool{}})
	case dice < 78:
		// A connection that breaks, somewhere.
		f := m.pick(rt)
		f.subscriber = m.subscribe(f.last)
	case dice < 80:
		// A dump from before everything: what nobody had asked for is lost.
		m.db.Restore()
		for n := 1; n <= m.n; n++ {
			if !m.knows(n) {
				delete(m.committed, fmt.Sprint(n))
			}
		}
	case dice < 85:
		m.poll(rt)
	default:
		m.pick(rt).read(m)
	}
}

func (m *feedModel) pick(rt *rapid.T) *listener {
	return rapid.SampledFrom(m.followers).Draw(rt, "follower")
}

func (l *listener) read(m *feedModel) {
	for _, e := range l.next() {
		if e.ID != "" {
			l.last = e.ID
		}
		switch e.Name {
		case cutoff.EventCutoff:
			l.told[strings.Fields(brief(m.t, e))[1]] = true
		case cutoff.EventReady, cutoff.EventHeartbeat:
			h, err := cutoff.ParseHeartbeat(e.Data)
			if err != nil {
				m.t.Fatal(err)
			}
			m.wantTold(l.told, h)
		}
	}
}

// poll reads page after page, from the beginning, as those do who ask.
func (m *feedModel) poll(rt *rapid.T) {
	told := map[string]bool{}
	after := ""
	for range rapid.IntRange(1, 5).Draw(rt, "pages") {
		p := m.Page(after, 500, cutoffs.Subscriber{})
		for _, c := range p.Cutoffs {
			told[briefCutoff(m.t, c)] = true
		}
		after = p.Next
		if p.AgeMS <= p.MaxStalenessMS {
			m.wantTold(told, cutoff.Heartbeat{AgeMS: p.AgeMS, Now: p.Now})
		}
	}
}

// wantTold demands that everything was told that had been committed before the
// moment that the heartbeat vouches for.
func (m *feedModel) wantTold(told map[string]bool, h cutoff.Heartbeat) {
	moment := h.Now.Add(-time.Duration(h.AgeMS) * time.Millisecond)
	for name, at := range m.committed {
		if at.Before(moment) && !told[name] {
			m.t.Errorf("%s was committed at %v, and what is vouched for until %v lacks it", name, at, moment)
			return
		}
	}
}
