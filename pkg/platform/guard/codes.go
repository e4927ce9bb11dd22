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
// when the current one has lasted for codeMemory or is full, the previous one is
// forgotten. What is remembered depends only on age, so no flood can have a new code
// forgotten before an old one.
type codeSet struct {
	mu                sync.Mutex
	current, previous map[codeHash]sent
	since             time.Time // when the current generation began
	maxPerGeneration  int       // how many codes a generation holds at most
}

// sent is what is known of a code that was sent.
type sent struct {
	// caller is whom it was sent for: many codes of one carrier share the text.
	caller unique.Handle[string]
	// reported says that the code's next use needs no report: it was reported, or the
	// platform does not know the code.
	reported bool
}

func newCodeSet(limit int) *codeSet {
	return &codeSet{current: make(map[codeHash]sent), maxPerGeneration: limit / 2}
}

// seen reports whether the code was claimed.
func (s *codeSet) seen(h codeHash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.has(h)
}

// markReported stops reports of the code. It returns for which caller the code was sent,
// and whether the code was not marked before.
func (s *codeSet) markReported(h codeHash) (first string, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, generation := range []map[codeHash]sent{s.current, s.previous} {
		if c, there := generation[h]; there && !c.reported {
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
	if age := now.Sub(s.since); age >= codeMemory || len(s.current) >= s.maxPerGeneration {
		s.current, s.previous, s.since = make(map[codeHash]sent), s.current, now
		if age >= 2*codeMemory {
			s.previous = nil
		}
	}
	s.current[h] = sent{caller: unique.Make(caller)}
	return true
}

// release takes a claim back: the code was not sent after all.
func (s *codeSet) release(h codeHash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.current, h)
	delete(s.previous, h)
}

func (s *codeSet) has(h codeHash) bool {
	_, current := s.current[h]
	_, previous := s.previous[h]
	return current || previous
}
