package guard

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
	"unique"

	"github.com/yufu-auth/yufu/pkg/auth"
)

const (
	// codeMemory is the minimum time that a code is remembered: longer than it is valid.
	codeMemory = 6 * time.Minute
	// maxCodes bounds the memory, at about seventy bytes a code. Only 2,900 calls a
	// second for six minutes make it drop a code early.
	maxCodes = 1 << 20
)

// codeHash identifies a code of a lane, sent with the app's secrets, without storing them.
type codeHash [16]byte

// hashCode includes the secrets: a code that was sent with a secret that was just replaced
// may be sent with the new one.
func hashCode(l lane, secrets map[string]auth.Secret, code string) codeHash {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%d %q %q", l.kind, l.appID, code)
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		_, _ = fmt.Fprintf(h, " %q %q", name, secrets[name].Reveal())
	}
	return codeHash(h.Sum(nil))
}

// codeSet remembers the codes that were sent, of all apps, in two generations: when the
// current one is codeMemory old or full, the previous one is dropped. Codes are dropped
// only by age, so no flood can push out a new code before an old one.
type codeSet struct {
	mu                sync.Mutex
	current, previous map[codeHash]sent
	since             time.Time // when the current generation began
	maxPerGeneration  int       // how many codes a generation holds at most
}

// sent describes a code that was sent.
type sent struct {
	// caller is the caller for whom it was sent. Many codes of one carrier share the
	// text.
	caller unique.Handle[string]
	// reported means that the code's next use needs no report: it was reported, or the
	// platform does not know the code.
	reported bool
}

func newCodeSet(limit int) *codeSet {
	return &codeSet{current: make(map[codeHash]sent), maxPerGeneration: limit / 2}
}

// seen reports whether the code is claimed.
func (s *codeSet) seen(h codeHash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.has(h)
}

// markReported stops reports of the code. It returns the caller for whom the code was
// sent, and whether the code was not marked before.
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

// release withdraws a claim: the code was not sent.
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
