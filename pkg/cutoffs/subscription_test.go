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
	inBubble(t, "a subscription begins with a snapshot and continues with new cutoffs", func(t *testing.T) {
		w := newWorld(t, ended(1), auth.AppRevoked("wx1", 2, time.Now()))
		s := w.subscribe("")
		wantEvents(t, s.rest(), "cutoff 1", "cutoff wx1/2", "ready 0ms @t1.2")
		wantEvents(t, s.rest())
		w.db.Commit(ended(3), ended(4))
		w.catchUp()
		if !isClosed(s.more) {
			t.Error("the subscriber was not woken")
		}
		wantEvents(t, s.rest(), "cutoff 3 @t1.3", "cutoff 4 @t1.4")
		time.Sleep(1234 * time.Millisecond)
		w.Beat()
		wantEvents(t, s.rest(), "heartbeat 1234ms")
		wantEvents(t, s.rest())
	})
	inBubble(t, "a subscription of an empty feed is ready at once and can be resumed", func(t *testing.T) {
		w := newWorld(t)
		wantEvents(t, w.subscribe("").rest(), "ready 0ms @t1.0")
		w.db.Commit(ended(1))
		w.catchUp()
		wantEvents(t, w.subscribe("t1.0").rest(), "cutoff 1 @t1.1", "ready 0ms @t1.1")
	})
	inBubble(t, "a subscription resumes after the last id that was seen", func(t *testing.T) {
		w := newWorld(t, endedAll(1, 5)...)
		wantEvents(t, w.subscribe("t1.3").rest(), "cutoff 4 @t1.4", "cutoff 5 @t1.5", "ready 0ms @t1.5")
		wantEvents(t, w.subscribe("t1.5").rest(), "ready 0ms @t1.5")
	})
	t.Run("resets", func(t *testing.T) {
		t.Parallel()
		for name, id := range map[string]string{
			"a future id": "t1.6", "an id of another timeline": "t0.3", "an expired id": "t1.1", "no id": "x", "no number": "t1.",
			"another spelling": "t1.03", "a sign": "t1.+3", "space": "t1. 3", "too great a number": "t1.9223372036854775808",
			"a long text": strings.Repeat("t1.", 1000),
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
	inBubble(t, "a subscription resumes at the last expired cutoff", func(t *testing.T) {
		w := newWorld(t, ended(1))
		time.Sleep(auth.CutoffRetention)
		w.db.Commit(ended(2))
		w.catchUp()
		w.Prune(time.Now())
		wantEvents(t, w.subscribe("t1.1").rest(), "cutoff 2 @t1.2", "ready 0ms @t1.2")
	})
	inBubble(t, "a subscription resumes at a replica without the expired cutoffs", func(t *testing.T) {
		old := ended(1)
		time.Sleep(auth.CutoffRetention)
		w := newWorld(t, old)
		wantEvents(t, w.subscribe("t1.1").rest(), "ready 0ms @t1.1")
	})
	inBubble(t, "a large snapshot is sent in pieces, complete and without other events", func(t *testing.T) {
		const n = 5000
		w := newWorld(t, endedAll(1, n)...)
		s := w.subscribe("")
		var all []cutoff.Event
		pieces := 0
		for s.more == nil || isClosed(s.more) {
			var b []byte
			b, s.more, s.err = s.sub.Next(nil)
			if len(b) > cutoffs.ChunkSize+1024 {
				t.Errorf("a piece of %d bytes is too large", len(b))
			}
			all = append(all, parse(t, b)...)
			if pieces++; pieces == 3 {
				w.db.Commit(ended(n + 1)) // in the middle
				w.catchUp()
				w.Beat()
			}
		}
		if len(all) != n+2 || brief(t, all[n]) != fmt.Sprintf("cutoff %d", n+1) || brief(t, all[n+1]) != fmt.Sprintf("ready 0ms @t1.%d", n+1) {
			t.Errorf("%d events, the last are %s and %s; want %d, the last a cutoff and ready", len(all), brief(t, all[n]), brief(t, all[len(all)-1]), n+2)
		}
		if pieces < 5 {
			t.Errorf("%d pieces, want at least 5", pieces)
		}
		for i, e := range all[:n] {
			if got, want := brief(t, e), fmt.Sprintf("cutoff %d", i+1); got != want {
				t.Fatalf("event %q, want %q", got, want)
			}
		}
	})
	inBubble(t, "a large burst is sent in pieces and can be resumed anywhere", func(t *testing.T) {
		const n = 3000
		w := newWorld(t)
		s := w.subscribe("")
		s.rest()
		w.db.Commit(endedAll(1, n)...)
		w.catchUp()
		w.Beat()
		first := s.next()
		if !isClosed(s.more) || len(first) >= n {
			t.Fatalf("the first piece has %d events, want only some of them", len(first))
		}
		last := first[len(first)-1]
		rest := w.subscribe(last.ID).rest()
		if got := len(first) + len(rest); got != n+1 {
			t.Errorf("%d events with the resumed ones, want all and ready: %d", got, n+1)
		}
		more := s.rest()
		if got := brief(t, more[len(more)-1]); got != "heartbeat 0ms" {
			t.Errorf("last event = %q, want a heartbeat of 0 ms", got)
		}
	})
	inBubble(t, "a snapshot starts over when the timeline changes in the middle", func(t *testing.T) {
		w := newWorld(t, endedAll(1, 2000)...)
		s := w.subscribe("")
		s.next()
		w.db.Restore(ended(3000))
		w.catchUp()
		rest := s.rest()
		if rest[0].Name != cutoff.EventReset || len(rest) != 2000+3 {
			t.Errorf("%d events, the first is %s; want 2003 and a reset", len(rest), rest[0].Name)
		}
	})
}

// TestWakeUps runs a subscriber that reads whenever it is woken.
func TestWakeUps(t *testing.T) {
	t.Parallel()
	type wake struct {
		at     time.Time
		events []cutoff.Event
	}
	// run returns a channel that gets all wake-ups when the feed is closed.
	run := func(w *world) <-chan []wake {
		s := w.subscribe("")
		s.rest()
		got := make(chan []wake, 1)
		go func() {
			var all []wake
			for {
				<-s.more
				events := s.rest()
				if s.err != nil {
					got <- all
					return
				}
				all = append(all, wake{time.Now(), events})
			}
		}()
		synctest.Wait()
		return got
	}
	inBubble(t, "the first cutoff after a pause is sent at once, and a burst every 10 ms", func(t *testing.T) {
		w := newWorld(t)
		got := run(w)
		time.Sleep(time.Second)
		const n = 1000
		var committed []time.Time
		for i := range n {
			w.db.Commit(ended(i))
			w.catchUp()
			committed = append(committed, time.Now())
			time.Sleep(100 * time.Microsecond)
		}
		time.Sleep(time.Second)
		w.db.Commit(ended(n))
		w.catchUp()
		committed = append(committed, time.Now())
		time.Sleep(time.Second)
		w.Close()
		wakes := <-got
		if len(wakes) != 12 {
			t.Errorf("the subscriber was woken %d times, want 12", len(wakes))
		}
		i := 0
		for _, wake := range wakes {
			for _, e := range wake.events {
				if want := fmt.Sprintf("cutoff %d @t1.%d", i, i+1); brief(t, e) != want {
					t.Fatalf("event = %s, want %s", brief(t, e), want)
				}
				late := wake.at.Sub(committed[i])
				if late > 10*time.Millisecond || (i == 0 || i == n) && late > 0 {
					t.Errorf("cutoff %d was sent %v after its commit", i, late)
				}
				i++
			}
		}
		if i != n+1 {
			t.Errorf("%d cutoffs were sent, want %d", i, n+1)
		}
	})
	inBubble(t, "thousands of subscribers are woken less often", func(t *testing.T) {
		for _, c := range []struct {
			subscribers int
			pause       time.Duration
		}{{1, 10 * time.Millisecond}, {500, 10 * time.Millisecond}, {2000, 40 * time.Millisecond}, {10_000, 50 * time.Millisecond}} {
			w := newWorld(t)
			all := make([]*subscriber, c.subscribers)
			for i := range all {
				all[i] = w.subscribe("")
				all[i].rest()
			}
			w.db.Commit(ended(1))
			w.catchUp()
			if !isClosed(all[0].more) {
				t.Errorf("%d subscribers were not woken at once", c.subscribers)
			}
			all[0].rest()
			w.db.Commit(ended(2))
			w.catchUp()
			began := time.Now()
			<-all[0].more
			if pause := time.Since(began); pause != c.pause {
				t.Errorf("%d subscribers were woken again after %v, want %v", c.subscribers, pause, c.pause)
			}
		}
	})
	inBubble(t, "the end of the feed wakes at once", func(t *testing.T) {
		w := newWorld(t)
		got := run(w)
		w.Beat()
		synctest.Wait()
		began := time.Now()
		w.Close()
		<-got
		if late := time.Since(began); late != 0 {
			t.Errorf("the subscriber was woken after %v, want 0 s", late)
		}
	})
}

func TestPage(t *testing.T) {
	t.Parallel()
	inBubble(t, "pages follow each other, and only the last one is fresh", func(t *testing.T) {
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
				t.Errorf("page after %q: age %v, now %v, max_staleness_ms %d; want 1 s in the last page, and an age above the maximum staleness before", after, age, p.Now, p.MaxStalenessMS)
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
	inBubble(t, "an id that cannot be resumed begins with the first cutoff", func(t *testing.T) {
		w := newWorld(t, endedAll(1, 2)...)
		for _, after := range []string{"", "t0.1", "t1.9", "x"} {
			wantPage(t, w.Page(after, 10, cutoffs.Subscriber{}), "t1.2", "1", "2")
		}
	})
	inBubble(t, "pages have the cutoffs of an earlier timeline too", func(t *testing.T) {
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
		// A subscription from the middle of the pages is not reset.
		p := w.Page("", 2, cutoffs.Subscriber{})
		wantEvents(t, w.subscribe(p.Next).rest(), "cutoff 3", "cutoff 4 @t2.1", "cutoff 5 @t2.2", "ready 0ms @t2.2")
	})
	inBubble(t, "a page without cutoffs has an empty list, not null", func(t *testing.T) {
		w := newWorld(t)
		for _, limit := range []int{-1, 0, 1} {
			if p := w.Page("", limit, cutoffs.Subscriber{}); p.Cutoffs == nil || p.Next != "t1.0" {
				t.Errorf("Page() = %+v, want an empty list", p)
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
		t.Errorf("page = %q, next = %q, want %q and %q", got, p.Next, want, next)
	}
}

// TestFreshness runs random actions in any order, and checks each ready event, heartbeat
// and page against the commits before the moment that it states.
func TestFreshness(t *testing.T) {
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

// feedModel records when each session was revoked, and which cutoffs each follower of
// the feed got.
type feedModel struct {
	*world
	n         int
	committed map[string]time.Time
	followers []*listener
}

// listener is a validator: it keeps all cutoffs, and the last id that it got.
type listener struct {
	*subscriber
	received map[string]bool
	last     string
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
		m.followers = append(m.followers, &listener{subscriber: m.subscribe(""), received: map[string]bool{}})
	case dice < 78:
		// A connection breaks somewhere.
		f := m.pick(rt)
		f.subscriber = m.subscribe(f.last)
	case dice < 80:
		// A dump from before all commits: cutoffs that were not read yet are lost.
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
			l.received[strings.Fields(brief(m.t, e))[1]] = true
		case cutoff.EventReady, cutoff.EventHeartbeat:
			h, err := cutoff.ParseHeartbeat(e.Data)
			if err != nil {
				m.t.Fatal(err)
			}
			m.wantReceived(l.received, h)
		}
	}
}

// poll reads all pages from the beginning, like a client that polls.
func (m *feedModel) poll(rt *rapid.T) {
	received := map[string]bool{}
	after := ""
	for range rapid.IntRange(1, 5).Draw(rt, "pages") {
		p := m.Page(after, 500, cutoffs.Subscriber{})
		for _, c := range p.Cutoffs {
			received[briefCutoff(m.t, c)] = true
		}
		after = p.Next
		if p.AgeMS <= p.MaxStalenessMS {
			m.wantReceived(received, cutoff.Heartbeat{AgeMS: p.AgeMS, Now: p.Now})
		}
	}
}

// wantReceived checks that all cutoffs were received that had been committed before the
// moment that the heartbeat states.
func (m *feedModel) wantReceived(received map[string]bool, h cutoff.Heartbeat) {
	moment := h.Now.Add(-time.Duration(h.AgeMS) * time.Millisecond)
	for name, at := range m.committed {
		if at.Before(moment) && !received[name] {
			m.t.Errorf("%s was committed at %v, but is missing in data that is complete until %v", name, at, moment)
			return
		}
	}
}
