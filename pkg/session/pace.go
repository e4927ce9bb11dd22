package session

import (
	"sync"
	"time"

	"github.com/google/uuid"
)

// A session may rotate its refresh token this often at once, and then once for
// each pause: 30 times in any ten seconds. Only rotations count, because they
// write: a replay does not. Who wants to use up a session's pace needs its
// current refresh token.
const (
	rotationBurst = 20
	rotationPause = time.Second
	// maxPaced bounds the memory, at some fifty bytes a session.
	maxPaced = 1 << 17
)

// pace remembers the rotations of the sessions that had some lately, in two
// generations: when the younger one has lasted for a full burst or is full, the
// older one is forgotten. It is safe for concurrent use, and per process.
type pace struct {
	mu sync.Mutex
	// young and old hold for each session when its burst is full again, in Unix
	// nanoseconds.
	young, old map[uuid.UUID]int64
	since      time.Time // when the young generation began
	generation int       // how many sessions a generation holds at most
}

func newPace(limit int) *pace {
	return &pace{young: make(map[uuid.UUID]int64), generation: limit / 2}
}

// wait returns how long the session has to wait before its next rotation; zero
// is now.
func (p *pace) wait(id uuid.UUID, now time.Time) time.Duration {
	p.mu.Lock()
	full := p.full(id)
	p.mu.Unlock()
	if full == 0 {
		return 0
	}
	left := time.Duration(full - now.UnixNano())
	if left > rotationBurst*rotationPause {
		// The clock went back. To hold the session to the old time would refuse its
		// refreshes for as long as the clock is behind it.
		return 0
	}
	return max(left-(rotationBurst-1)*rotationPause, 0)
}

// rotated counts a rotation.
func (p *pace) rotated(id uuid.UUID, now time.Time) {
	at := now.UnixNano()
	p.mu.Lock()
	defer p.mu.Unlock()
	full := max(p.full(id), at) + int64(rotationPause)
	// Rotations that were let through together must not put off the next one.
	full = min(full, at+int64(rotationBurst*rotationPause))
	if age := now.Sub(p.since); age >= rotationBurst*rotationPause || age < 0 || len(p.young) >= p.generation {
		p.young, p.old, p.since = make(map[uuid.UUID]int64), p.young, now
	}
	p.young[id] = full
}

// full returns when the session's burst is full again, or 0. The lock is held.
func (p *pace) full(id uuid.UUID) int64 {
	if full, there := p.young[id]; there {
		return full
	}
	return p.old[id]
}
