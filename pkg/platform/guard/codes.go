package guard

import (
	"crypto/sha256"
	"sync"
	"time"
	"unique"
)

const (
	// codeMemory is how long a code is remembered at least: longer than it
	// lives.
	codeMemory = 6 * time.Minute
	// maxCodes bounds the memory, at some seventy bytes a code. It takes 2,900
	// calls a second, for six minutes, to have a code forgotten early.
	maxCodes = 1 << 20
)

// codeHash names a code of a lane without keeping it.
type codeHash [16]byte

func hashCode(l lane, code string) codeHash {
	sum := sha256.Sum256([]byte(string(rune(l.kind)) + l.appID + "\x00" + code))
	return codeHash(sum[:])
}

// codeSet remembers the codes that were sent, of all apps, in two generations:
// when the younger one has lasted for codeMemory or is full, the older one is
// forgotten. What is remembered depends on age alone, so that no flood can have
// a young code forgotten before an old one.
type codeSet struct {
	mu         sync.Mutex
	young, old map[codeHash]sent
	since      time.Time // when the young generation began
	generation int       // how many codes a generation holds at most
}

// sent is what is known of a code that was sent.
type sent struct {
	// caller is whom it was sent for: many codes of one carrier share the text.
	caller unique.Handle[string]
	// quiet says that the code's next use is not worth a report: it was reported,
	// or the platform does not know the code.
	quiet bool
}

func newCodeSet(limit int) *codeSet {
	return &codeSet{young: make(map[codeHash]sent), generation: limit / 2}
}

// seen reports whether the code was claimed.
func (s *codeSet) seen(h codeHash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.has(h)
}

// quiet stops reports of the code. It returns for whom the code was sent, and
// whether this is the first time that it is quiet.
func (s *codeSet) quiet(h codeHash) (first string, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, generation := range []map[codeHash]sent{s.young, s.old} {
		if c, there := generation[h]; there && !c.quiet {
			generation[h] = sent{c.caller, true}
			return c.caller.Value(), true
		}
	}
	return "", false
}

// claim reports whether the caller is the first to claim the code: only that
// caller may send it.
func (s *codeSet) claim(h codeHash, caller string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.has(h) {
		return false
	}
	if age := now.Sub(s.since); age >= codeMemory || len(s.young) >= s.generation {
		s.young, s.old, s.since = make(map[codeHash]sent), s.young, now
		if age >= 2*codeMemory {
			s.old = nil
		}
	}
	s.young[h] = sent{caller: unique.Make(caller)}
	return true
}

// release takes a claim back: the code was not sent after all.
func (s *codeSet) release(h codeHash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.young, h)
	delete(s.old, h)
}

func (s *codeSet) has(h codeHash) bool {
	_, young := s.young[h]
	_, old := s.old[h]
	return young || old
}
