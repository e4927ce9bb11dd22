package cutoff_test

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
)

func session(name string, ver int64) cutoff.Cutoff {
	return cutoff.Cutoff{Kind: cutoff.KindSession, Session: name, Ver: ver}
}

func app(name string, epoch int64) cutoff.Cutoff {
	return cutoff.Cutoff{Kind: cutoff.KindApp, App: name, Epoch: epoch}
}

func key(kid string) cutoff.Cutoff { return cutoff.Cutoff{Kind: cutoff.KindKey, KID: kid} }

func setOf(cutoffs ...cutoff.Cutoff) *cutoff.Set {
	s := cutoff.NewSet()
	for _, c := range cutoffs {
		s.Add(c, now)
	}
	return s
}

func TestHits(t *testing.T) {
	t.Parallel()
	token := cutoff.Token{Session: "s", Ver: 3, App: "a", Epoch: 2, KID: "k"}
	for name, c := range map[string]struct {
		cutoff cutoff.Cutoff
		want   bool
	}{
		"the whole session":         {session("s", 0), true},
		"the session above its ver": {session("s", 4), true},
		"the session at its ver":    {session("s", 3), false},
		"the session below its ver": {session("s", 2), false},
		"another session":           {session("t", 0), false},
		"the app above its epoch":   {app("a", 3), true},
		"the app at its epoch":      {app("a", 2), false},
		"another app":               {app("b", 9), false},
		"an app named like session": {app("s", 9), false},
		"its key":                   {key("k"), true},
		"another key":               {key("l"), false},
		"a key named like session":  {key("s"), false},
		"an unknown kind":           {cutoff.Cutoff{Kind: "person", Session: "s", App: "a", Epoch: 9, KID: "k"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := c.cutoff.Hits(token); got != c.want {
				t.Errorf("Cutoff.Hits() = %t", got)
			}
			if got := setOf(c.cutoff).Hits(token); got != c.want {
				t.Errorf("Set.Hits() = %t", got)
			}
		})
	}
	t.Run("an empty set", func(t *testing.T) {
		t.Parallel()
		if cutoff.NewSet().Hits(token) || cutoff.NewSet().Hits(cutoff.Token{}) {
			t.Error("Hits() = true, want false")
		}
	})
}

func TestHitsAllocations(t *testing.T) {
	const id = "01900000-0000-7c00-8000-00000000000a"
	s := setOf(session(id, 2), app("a", 1), key("l"))
	token := cutoff.Token{Session: id, Ver: 3, App: "a", Epoch: 2, KID: "k"}
	if n := testing.AllocsPerRun(100, func() { s.Hits(token) }); n != 0 {
		t.Errorf("Hits() makes %v allocations, want 0", n)
	}
}

// TestSetUnion compares the set with the single cutoffs, in any order and with
// repetitions.
func TestSetUnion(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewSource(1))
	// UUIDs are kept in another form than other names.
	names := []string{"a", "01900000-0000-7c00-8000-00000000000a", "01900000-0000-7C00-8000-00000000000A", "01900000-0000-7c00-8000-00000000000b"}
	name := func() string { return names[rnd.Intn(len(names))] }
	for range 5000 {
		cutoffs := make([]cutoff.Cutoff, rnd.Intn(6))
		for i := range cutoffs {
			switch rnd.Intn(4) {
			case 0:
				cutoffs[i] = key(name())
			case 1:
				cutoffs[i] = app(name(), 1+rnd.Int63n(4))
			default:
				cutoffs[i] = session(name(), rnd.Int63n(5))
			}
		}
		s := setOf(cutoffs...)
		copied := setOf(s.All()...)
		for range 10 {
			token := cutoff.Token{Session: name(), Ver: rnd.Int63n(5), App: name(), Epoch: rnd.Int63n(5), KID: name()}
			want := slices.ContainsFunc(cutoffs, func(c cutoff.Cutoff) bool { return c.Hits(token) })
			if got := s.Hits(token); got != want {
				t.Fatalf("set of %+v: Hits(%+v) = %t", cutoffs, token, got)
			}
			if got := copied.Hits(token); got != want {
				t.Fatalf("set of %+v: a set of All() differs for %+v", cutoffs, token)
			}
		}
		if got, want := len(s.All()), s.Len(); got != want {
			t.Fatalf("len(All()) = %d, Len() = %d", got, want)
		}
	}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	names := func(s *cutoff.Set) string {
		var all []string
		for _, c := range s.All() {
			all = append(all, c.Session+c.App+c.KID)
		}
		slices.Sort(all)
		return strings.Join(all, " ")
	}
	t.Run("keeps session and app cutoffs for 65 minutes and key cutoffs for ever", func(t *testing.T) {
		t.Parallel()
		s := setOf(session("session", 0), app("app", 1), key("key"))
		const id, youngerID = "00000000-0000-7c00-8000-00000000000a", "00000000-0000-7c00-8000-00000000000b"
		s.Add(session(id, 0), now)
		s.Add(session(youngerID, 0), now.Add(time.Second))
		s.Add(session("younger", 0), now.Add(time.Second))
		s.Add(app("youngerapp", 1), now.Add(time.Second))
		s.Prune(now.Add(cutoff.Retention))
		if got := names(s); got != id+" "+youngerID+" app key session younger youngerapp" {
			t.Errorf("cutoffs after 65 minutes = %s", got)
		}
		s.Prune(now.Add(cutoff.Retention + time.Nanosecond))
		if got := names(s); got != youngerID+" key younger youngerapp" {
			t.Errorf("cutoffs a moment later = %s", got)
		}
		s.Prune(now.Add(100 * 365 * 24 * time.Hour))
		if got := names(s); got != "key" || s.Len() != 1 {
			t.Errorf("cutoffs in the end = %s", got)
		}
	})
	t.Run("drops nothing for a time that is far off", func(t *testing.T) {
		t.Parallel()
		s := setOf(session("session", 0), session("01900000-0000-7c00-8000-00000000000a", 0))
		s.Prune(time.Time{})
		if got := s.Len(); got != 2 {
			t.Errorf("Len() = %d, want 2", got)
		}
	})
	t.Run("keeps what is live when most has expired", func(t *testing.T) {
		t.Parallel()
		s := cutoff.NewSet()
		id := func(i int) string { return fmt.Sprintf("01900000-0000-7c00-8000-%012d", i) }
		const expired, live = 20_000, 200
		for i := range expired {
			s.Add(session(id(i), 0), now)
		}
		for i := range live {
			s.Add(session(id(expired+i), 0), now.Add(time.Minute))
		}
		s.Prune(now.Add(cutoff.Retention + time.Second))
		if got := s.Len(); got != live {
			t.Errorf("Len() = %d, want %d", got, live)
		}
		for i := range live {
			if !s.Hits(cutoff.Token{Session: id(expired + i), Ver: 1}) {
				t.Errorf("Hits() = false for session %s, want true", id(expired+i))
			}
		}
	})
	t.Run("counts from the latest repetition, in any order", func(t *testing.T) {
		t.Parallel()
		s := setOf(session("s", 5), app("a", 5))
		s.Add(session("s", 2), now.Add(time.Minute))
		s.Add(app("a", 2), now.Add(time.Minute))
		s.Add(session("s", 3), now.Add(-time.Hour))
		s.Add(app("a", 3), now.Add(-time.Hour))
		s.Prune(now.Add(cutoff.Retention + time.Minute))
		if !s.Hits(cutoff.Token{Session: "s", Ver: 4}) || !s.Hits(cutoff.Token{App: "a", Epoch: 4}) {
			t.Error("a weaker or older repetition weakened the cutoff")
		}
	})
}

func TestSetConcurrent(t *testing.T) {
	t.Parallel()
	s := cutoff.NewSet()
	const n = 500
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range n {
				c := []cutoff.Cutoff{session(fmt.Sprint(g, "-", i), 0), app(fmt.Sprint(g, "-", i), 1), key(fmt.Sprint(g, "-", i))}[i%3]
				s.Add(c, now)
				if !s.Hits(cutoff.Token{Session: c.Session, App: c.App, KID: c.KID}) {
					t.Errorf("Hits() = false after Add(%+v)", c)
				}
				if i%50 == 0 {
					s.Prune(now)
					s.All()
				}
			}
		}()
	}
	wg.Wait()
	if got := s.Len(); got != 4*n {
		t.Errorf("Len() = %d, want %d", got, 4*n)
	}
}

func BenchmarkHits(b *testing.B) {
	s := setOf(app("wxdevelopment0001", 1), key("gone"))
	tokens := make([]cutoff.Token, 1024)
	for i := range 100_000 {
		name := fmt.Sprintf("01900000-0000-7c00-8000-%012d", i)
		s.Add(session(name, 2), now)
		if i < len(tokens) {
			tokens[i] = cutoff.Token{Session: name, Ver: 2, App: "wxdevelopment0001", Epoch: 1, KID: "kid"}
		}
	}
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			if s.Hits(tokens[i%len(tokens)]) {
				b.Fatal("Hits() = true, want false")
			}
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				if s.Hits(tokens[i%len(tokens)]) {
					b.Error("Hits() = true, want false")
				}
			}
		})
	})
}
