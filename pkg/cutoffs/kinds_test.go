package cutoffs_test

import (
	"encoding/json"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/cutoffs/cutoffstest"
)

// person is a kind that a later version may have: it ends all sessions of a person.
const person auth.CutoffKind = "person"

// inOne are the cutoffs of one transaction; the last one summarises the others.
func inOne(base ...auth.Cutoff) []auth.Cutoff {
	for i := range base {
		base[i].CoveredBy = person
	}
	return append(base, auth.Cutoff{Kind: person, ExpiresAt: time.Now().Add(auth.CutoffRetention)})
}

func (w *world) subscribeKnowing(lastEventID string, kinds ...cutoff.Kind) *subscriber {
	return &subscriber{t: w.t, sub: w.Subscribe(lastEventID, cutoffs.Subscriber{Kinds: kinds})}
}

// newerWorld is a replica of a later version, which knows the kind person.
func newerWorld(t *testing.T, db *cutoffstest.Store) *world {
	t.Helper()
	w := &world{t: t, db: db, log: &logLines{}}
	c := config(db, time.Now, w.log)
	c.Log, c.Kinds = slog.New(slog.DiscardHandler), []auth.CutoffKind{person}
	f, err := cutoffs.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	w.Follower = f
	return w
}

// TestFurtherKind checks that a kind of a later version goes to the subscribers that name
// it, in place of the base cutoffs with the same effect, which go to all others.
func TestFurtherKind(t *testing.T) {
	t.Parallel()
	inBubble(t, "a further kind goes to subscribers that name it, and base cutoffs to others", func(t *testing.T) {
		db := cutoffstest.New()
		db.Commit(ended(1))
		db.Commit(inOne(ended(2), auth.AppRevoked("wx1", 3, time.Now()))...)
		w := newerWorld(t, db)
		wantEvents(t, w.subscribe("").rest(), "cutoff 1", "cutoff 2", "cutoff wx1/3", "ready 0ms @t1.4")
		wantEvents(t, w.subscribeKnowing("", "weather").rest(), "cutoff 1", "cutoff 2", "cutoff wx1/3", "ready 0ms @t1.4")
		wantKinds(t, w.subscribeKnowing("", "person").rest(), "session", "person", "ready")
		w.wantKnown(true, 1, 2) // the replica itself
		wantPage(t, w.Page("t1.1", 10, cutoffs.Subscriber{}), "t1.4", "2", "wx1/3")
		if p := w.Page("t1.1", 10, cutoffs.Subscriber{Kinds: []cutoff.Kind{"person"}}); len(p.Cutoffs) != 1 || p.Cutoffs[0].Kind != "person" || p.Next != "t1.4" {
			t.Errorf("Page() = %+v, want the cutoff of kind person", p)
		}
	})
	inBubble(t, "a subscriber that stopped within its transaction does not miss it", func(t *testing.T) {
		w := newerWorld(t, cutoffstest.New())
		w.db.Commit(inOne(ended(1), ended(2), ended(3))...)
		w.catchUp()
		for _, id := range []string{"t1.0", "t1.1", "t1.2", "t1.3"} {
			wantKinds(t, w.subscribeKnowing(id, "person").rest(), "person", "ready")
		}
	})
	inBubble(t, "an older replica skips an unknown kind and uses the base cutoffs", func(t *testing.T) {
		db := cutoffstest.New()
		db.Commit(inOne(ended(1), ended(2))...)
		w := openWorld(t, db, time.Now)
		wantEvents(t, w.subscribe("").rest(), "cutoff 1", "cutoff 2", "ready 0ms @t1.3")
		wantEvents(t, w.subscribeKnowing("", "person").rest(), "cutoff 1", "cutoff 2", "ready 0ms @t1.3")
		db.Commit(inOne(ended(3))...)
		w.catchUp()
		w.wantKnown(true, 1, 2, 3)
		wantEvents(t, w.subscribe("t1.3").rest(), "cutoff 3 @t1.4", "ready 0ms @t1.5")
	})
}

// wantKinds compares cutoffs by their kinds, because brief cannot read further kinds.
func wantKinds(t *testing.T, got []cutoff.Event, want ...string) {
	t.Helper()
	var kinds []string
	for _, e := range got {
		kinds = append(kinds, kindOf(t, e))
	}
	if !slices.Equal(kinds, want) {
		t.Errorf("kinds = %q, want %q", kinds, want)
	}
}

func kindOf(t *testing.T, e cutoff.Event) string {
	t.Helper()
	if e.Name != cutoff.EventCutoff {
		return e.Name
	}
	var c cutoff.Cutoff
	if err := json.Unmarshal(e.Data, &c); err != nil {
		t.Fatal(err)
	}
	return string(c.Kind)
}
