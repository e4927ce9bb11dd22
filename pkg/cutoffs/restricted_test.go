package cutoffs_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
)

// TestRestrictedSubscriber checks that a service key that is restricted to apps gets the
// cutoffs of these apps and of keys, and can resume after skipped cutoffs.
func TestRestrictedSubscriber(t *testing.T) {
	t.Parallel()
	inBubble(t, "gets the cutoffs of its apps, their sessions, keys, and those without an app", func(t *testing.T) {
		all := []auth.Cutoff{
			of("wx1", ended(1)), of("wx2", ended(2)), ended(3),
			auth.AppRevoked("wx1", 4, time.Now()), auth.AppRevoked("wx2", 5, time.Now()), auth.KeyCompromised("k-6"), of("wx3", ended(7)),
		}
		w := newWorld(t, all...)
		wantEvents(t, w.subscribeTo("", "wx1").rest(), "cutoff 1", "cutoff 3", "cutoff wx1/4", "cutoff k-6", "ready 0ms @t1.7")
		wantEvents(t, w.subscribeTo("", "wx1", "wx3").rest(), "cutoff 1", "cutoff 3", "cutoff wx1/4", "cutoff k-6", "cutoff 7", "ready 0ms @t1.7")
		wantEvents(t, w.subscribeTo("t1.2", "wx2").rest(), "cutoff 3 @t1.3", "cutoff wx2/5 @t1.5", "cutoff k-6 @t1.6", "ready 0ms @t1.7")
		wantEvents(t, w.subscribe("t1.6").rest(), "cutoff 7 @t1.7", "ready 0ms @t1.7")
		for _, events := range [][]cutoff.Event{w.subscribeTo("", "wx1").rest()} {
			for _, e := range events[:2] {
				if strings.Contains(string(e.Data), "wx1") {
					t.Errorf("a session cutoff has its app: %s", e.Data)
				}
			}
		}
	})
	inBubble(t, "gets the id of skipped cutoffs once, with the next heartbeat", func(t *testing.T) {
		w := newWorld(t)
		s := w.subscribeTo("", "wx1")
		wantEvents(t, s.rest(), "ready 0ms @t1.0")
		w.db.Commit(of("wx1", ended(1)), of("wx2", ended(2)))
		w.catchUp()
		wantEvents(t, s.rest(), "cutoff 1 @t1.1")
		w.Beat()
		wantEvents(t, s.rest(), "heartbeat 0ms @t1.2")
		w.Beat()
		wantEvents(t, s.rest(), "heartbeat 0ms")
		w.db.Commit(of("wx2", ended(3)), of("wx1", ended(4)))
		w.catchUp()
		wantEvents(t, s.rest(), "cutoff 4 @t1.4")
		w.Beat()
		wantEvents(t, s.rest(), "heartbeat 0ms")
		wantEvents(t, w.subscribeTo("t1.2", "wx1").rest(), "cutoff 4 @t1.4", "ready 0ms @t1.4")
	})
	inBubble(t, "can resume after skipped cutoffs that have expired", func(t *testing.T) {
		w := newWorld(t, of("wx1", ended(1)))
		s := w.subscribeTo("", "wx1")
		s.rest()
		w.db.Commit(of("wx2", ended(2)))
		w.catchUp()
		w.Beat()
		wantEvents(t, s.rest(), "heartbeat 0ms @t1.2")
		time.Sleep(auth.CutoffRetention)
		w.catchUp()
		w.Prune(time.Now())
		wantEvents(t, w.subscribeTo("t1.2", "wx1").rest(), "ready 0ms @t1.2")
		wantEvents(t, w.subscribeTo("t1.1", "wx1").rest(), "reset", "ready 0ms @t1.2")
	})
	inBubble(t, "no age is stated before all entries were examined", func(t *testing.T) {
		const n = 3*cutoffs.ChunkEntries + 1
		w := newWorld(t)
		s := w.subscribeTo("", "wx1")
		s.rest()
		var others []auth.Cutoff
		for _, c := range endedAll(1, n) {
			others = append(others, of("wx2", c))
		}
		w.db.Commit(append(others, of("wx1", ended(n+1)))...)
		w.catchUp()
		w.Beat()
		for range n / cutoffs.ChunkEntries {
			if got := s.next(); len(got) != 0 || !isClosed(s.more) {
				t.Fatalf("%d events while entries are left, want 0", len(got))
			}
		}
		wantEvents(t, s.rest(), "cutoff 12290 @t1.12290", "heartbeat 0ms")
	})
	inBubble(t, "pages have the same cutoffs", func(t *testing.T) {
		w := newWorld(t, of("wx1", ended(1)), of("wx2", ended(2)), of("wx1", ended(3)), of("wx2", ended(4)))
		who := cutoffs.Subscriber{Apps: []string{"wx1"}}
		wantPage(t, w.Page("", 1, who), "t1.2", "1")
		wantPage(t, w.Page("t1.2", 1, who), "t1.4", "3")
		if p := w.Page("t1.2", 1, who); p.AgeMS > p.MaxStalenessMS || !slices.Equal(p.Apps, who.Apps) {
			t.Errorf("Page() = %+v, want a fresh page that names the apps", p)
		}
		if p := w.Page("", 1, who); p.AgeMS <= p.MaxStalenessMS {
			t.Errorf("Page() = %+v, want a page that is not fresh", p)
		}
		wantPage(t, w.Page("", 10, cutoffs.Subscriber{Apps: []string{"wx9"}}), "t1.4")
	})
}
