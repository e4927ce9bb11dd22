package cutoff

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

// shards is the number of locks for the session cutoffs, so that validators on many cores
// do not wait for one another.
const shards = 64

// Set is the union of the live cutoffs. It grows with the revocations within [Retention],
// about 200 bytes a session. It drops nothing earlier: a size limit would let revoked
// tokens pass. It is safe for concurrent use.
type Set struct {
	seed     maphash.Seed
	sessions [shards]sessionShard

	// apps and keys are small and rarely change, so they are copied on write and read
	// without a lock. Writers hold mu.
	mu   sync.Mutex
	apps atomic.Pointer[map[string]activeCutoff]
	keys atomic.Pointer[map[string]struct{}]
}

type sessionShard struct {
	mu sync.RWMutex
	m  map[string]activeCutoff
	// Padding that puts the next shard's lock on another cache line.
	_ [64]byte
}

// activeCutoff is the ver or the epoch below which tokens are revoked, and the time of
// the last cutoff for it.
type activeCutoff struct {
	bound int64
	since time.Time
}

// NewSet returns an empty set.
func NewSet() *Set {
	s := &Set{seed: maphash.MakeSeed()}
	for i := range s.sessions {
		s.sessions[i].m = map[string]activeCutoff{}
	}
	s.apps.Store(&map[string]activeCutoff{})
	s.keys.Store(&map[string]struct{}{})
	return s
}

// Add adds a valid cutoff (see [Cutoff.Check]); an invalid one hits no token. Adding
// never weakens the set: of two cutoffs of one session or app the farther-reaching one
// counts. It stays live for [Retention] after now, or after an earlier call if that had a
// later now.
func (s *Set) Add(c Cutoff, now time.Time) {
	switch c.Kind {
	case KindSession:
		sh := s.shard(c.Session)
		sh.mu.Lock()
		defer sh.mu.Unlock()
		old, known := sh.m[c.Session]
		next := activeCutoff{bound: c.Ver, since: now}
		if known {
			if old.bound == 0 || (c.Ver != 0 && c.Ver < old.bound) {
				next.bound = old.bound
			}
			next.since = later(old.since, now)
		}
		sh.m[c.Session] = next
	case KindApp:
		s.mu.Lock()
		defer s.mu.Unlock()
		apps := *s.apps.Load()
		next := activeCutoff{bound: c.Epoch, since: now}
		if old, known := apps[c.App]; known {
			next = activeCutoff{bound: max(old.bound, c.Epoch), since: later(old.since, now)}
		}
		apps = clone(apps)
		apps[c.App] = next
		s.apps.Store(&apps)
	case KindKey:
		s.mu.Lock()
		defer s.mu.Unlock()
		keys := *s.keys.Load()
		if _, known := keys[c.KID]; known {
			return
		}
		keys = clone(keys)
		keys[c.KID] = struct{}{}
		s.keys.Store(&keys)
	}
}

// Hits reports whether a cutoff of the set hits the token. If none does, it allocates
// nothing. It rarely waits for a lock.
func (s *Set) Hits(t Token) bool { return s.Hitting(t) != nil }

// Hitting returns the cutoffs of the set that hit the token: at most one each for its
// session, its app and its key.
func (s *Set) Hitting(t Token) []Cutoff {
	var hits []Cutoff
	if keys := *s.keys.Load(); len(keys) > 0 {
		if _, hit := keys[t.KID]; hit {
			hits = append(hits, Cutoff{Kind: KindKey, KID: t.KID})
		}
	}
	if apps := *s.apps.Load(); len(apps) > 0 {
		if c, known := apps[t.App]; known && t.Epoch < c.bound {
			hits = append(hits, Cutoff{Kind: KindApp, App: t.App, Epoch: c.bound})
		}
	}
	sh := s.shard(t.Session)
	sh.mu.RLock()
	c, known := sh.m[t.Session]
	sh.mu.RUnlock()
	if known && belowVer(t.Ver, c.bound) {
		hits = append(hits, Cutoff{Kind: KindSession, Session: t.Session, Ver: c.bound})
	}
	return hits
}

// Prune drops the session and app cutoffs that were added more than [Retention] before
// now. If now has a monotonic reading, a wall clock that was set forward drops nothing
// early.
func (s *Set) Prune(now time.Time) {
	for i := range s.sessions {
		sh := &s.sessions[i]
		sh.mu.Lock()
		for name, c := range sh.m {
			if now.Sub(c.since) > Retention {
				delete(sh.m, name)
			}
		}
		sh.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := map[string]activeCutoff{}
	for name, c := range *s.apps.Load() {
		if now.Sub(c.since) <= Retention {
			kept[name] = c
		}
	}
	s.apps.Store(&kept)
}

// Len returns the number of sessions, apps and keys that have a cutoff.
func (s *Set) Len() int {
	n := len(*s.apps.Load()) + len(*s.keys.Load())
	for i := range s.sessions {
		sh := &s.sessions[i]
		sh.mu.RLock()
		n += len(sh.m)
		sh.mu.RUnlock()
	}
	return n
}

// All returns the cutoffs, one for each session, app and key, in no particular order. It
// includes every cutoff whose Add returned before the call.
func (s *Set) All() []Cutoff {
	all := make([]Cutoff, 0, s.Len())
	for kid := range *s.keys.Load() {
		all = append(all, Cutoff{Kind: KindKey, KID: kid})
	}
	for app, c := range *s.apps.Load() {
		all = append(all, Cutoff{Kind: KindApp, App: app, Epoch: c.bound})
	}
	for i := range s.sessions {
		sh := &s.sessions[i]
		sh.mu.RLock()
		for session, c := range sh.m {
			all = append(all, Cutoff{Kind: KindSession, Session: session, Ver: c.bound})
		}
		sh.mu.RUnlock()
	}
	return all
}

func (s *Set) shard(session string) *sessionShard {
	return &s.sessions[maphash.String(s.seed, session)%shards]
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func clone[V any](m map[string]V) map[string]V {
	c := make(map[string]V, len(m)+1)
	for k, v := range m {
		c[k] = v
	}
	return c
}
