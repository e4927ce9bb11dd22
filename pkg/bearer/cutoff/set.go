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
// about 50 bytes a session. It drops nothing earlier: a size limit would let revoked
// tokens pass. It is safe for concurrent use.
type Set struct {
	seed     maphash.Seed
	sessions [shards]sessionShard[[16]byte]
	// otherSessions are those whose ids are not UUIDs. The service has none.
	otherSessions sessionShard[string]

	// apps and keys are small and rarely change, so they are copied on write and read
	// without a lock. Writers hold mu.
	mu   sync.Mutex
	apps atomic.Pointer[map[string]activeCutoff]
	keys atomic.Pointer[map[string]struct{}]

	// began is the time of the first call with a time.
	began     time.Time
	beginOnce sync.Once
}

type sessionShard[ID comparable] struct {
	mu sync.RWMutex
	m  map[ID]activeCutoff
	// peak is the length that m has room for: a Go map never shrinks.
	peak int
	// Padding that puts the next shard's lock on another cache line.
	_ [64]byte
}

// activeCutoff is the ver or the epoch below which tokens are revoked, and the time of
// the last cutoff for it, counted from [Set].began.
type activeCutoff struct {
	bound int64
	since time.Duration
}

// NewSet returns an empty set.
func NewSet() *Set {
	s := &Set{seed: maphash.MakeSeed()}
	for i := range s.sessions {
		s.sessions[i].m = map[[16]byte]activeCutoff{}
	}
	s.otherSessions.m = map[string]activeCutoff{}
	s.apps.Store(&map[string]activeCutoff{})
	s.keys.Store(&map[string]struct{}{})
	return s
}

// sinceBegan returns a time as the set keeps it, in a third of the memory.
func (s *Set) sinceBegan(now time.Time) time.Duration {
	const farthest = 1 << 62 // far from an overflow, which could drop live cutoffs
	s.beginOnce.Do(func() { s.began = now })
	return min(max(now.Sub(s.began), -farthest), farthest)
}

// Add adds a valid cutoff (see [Cutoff.Check]); an invalid one hits no token. Adding
// never weakens the set: of two cutoffs of one session or app the farther-reaching one
// counts. It stays live for [Retention] after now, or after an earlier call if that had a
// later now.
func (s *Set) Add(c Cutoff, now time.Time) {
	since := s.sinceBegan(now)
	switch c.Kind {
	case KindSession:
		if id, ok := parseSessionID(c.Session); ok {
			s.AddSession(id, c.Ver, now)
		} else {
			s.otherSessions.add(c.Session, activeCutoff{c.Ver, since})
		}
	case KindApp:
		s.mu.Lock()
		defer s.mu.Unlock()
		apps := *s.apps.Load()
		next := activeCutoff{c.Epoch, since}
		if old, known := apps[c.App]; known {
			next = activeCutoff{max(old.bound, c.Epoch), max(old.since, since)}
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

// AddSession is Add for the cutoff of a session whose id is a UUID.
func (s *Set) AddSession(id [16]byte, ver int64, now time.Time) {
	s.shard(id).add(id, activeCutoff{ver, s.sinceBegan(now)})
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
	var c activeCutoff
	var known bool
	if id, ok := parseSessionID(t.Session); ok {
		c, known = s.shard(id).get(id)
	} else {
		c, known = s.otherSessions.get(t.Session)
	}
	if known && belowVer(t.Ver, c.bound) {
		hits = append(hits, Cutoff{Kind: KindSession, Session: t.Session, Ver: c.bound})
	}
	return hits
}

// Prune drops the session and app cutoffs that were added more than [Retention] before
// now. If now has a monotonic reading, a wall clock that was set forward drops nothing
// early.
func (s *Set) Prune(now time.Time) {
	before := s.sinceBegan(now) - Retention
	for i := range s.sessions {
		s.sessions[i].prune(before)
	}
	s.otherSessions.prune(before)
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := map[string]activeCutoff{}
	for name, c := range *s.apps.Load() {
		if c.since >= before {
			kept[name] = c
		}
	}
	s.apps.Store(&kept)
}

// Len returns the number of sessions, apps and keys that have a cutoff.
func (s *Set) Len() int {
	n := len(*s.apps.Load()) + len(*s.keys.Load()) + s.otherSessions.len()
	for i := range s.sessions {
		n += s.sessions[i].len()
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
		s.sessions[i].each(func(id [16]byte, c activeCutoff) {
			all = append(all, Cutoff{Kind: KindSession, Session: string(appendSessionID(nil, id)), Ver: c.bound})
		})
	}
	s.otherSessions.each(func(id string, c activeCutoff) {
		all = append(all, Cutoff{Kind: KindSession, Session: id, Ver: c.bound})
	})
	return all
}

func (s *Set) shard(id [16]byte) *sessionShard[[16]byte] {
	return &s.sessions[maphash.Bytes(s.seed, id[:])%shards]
}

func (sh *sessionShard[ID]) get(id ID) (activeCutoff, bool) {
	sh.mu.RLock()
	c, known := sh.m[id]
	sh.mu.RUnlock()
	return c, known
}

func (sh *sessionShard[ID]) add(id ID, next activeCutoff) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if old, known := sh.m[id]; known {
		if old.bound == 0 || (next.bound != 0 && next.bound < old.bound) {
			next.bound = old.bound
		}
		next.since = max(old.since, next.since)
	}
	sh.m[id] = next
	sh.peak = max(sh.peak, len(sh.m))
}

func (sh *sessionShard[ID]) prune(before time.Duration) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for id, c := range sh.m {
		if c.since < before {
			delete(sh.m, id)
		}
	}
	if len(sh.m) < sh.peak/4 {
		sh.m, sh.peak = clone(sh.m), len(sh.m)
	}
}

func (sh *sessionShard[ID]) len() int {
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return len(sh.m)
}

func (sh *sessionShard[ID]) each(call func(ID, activeCutoff)) {
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	for id, c := range sh.m {
		call(id, c)
	}
}

func clone[ID comparable, V any](m map[ID]V) map[ID]V {
	c := make(map[ID]V, len(m)+1)
	for k, v := range m {
		c[k] = v
	}
	return c
}
