package session

import (
	"sync"
	"time"

	"github.com/google/uuid"
)

// A session may rotate its refresh token rotationBurst times at once, and then once per
// pause: at most 30 times in ten seconds. Only rotations count, because they write;
// replays do not write. Only a holder of the current refresh token can use up a session's
// rotations. A thief may have that token, so a token that was replaced twice or more
// never waits: it ends the session.
const (
	rotationBurst = 20
	rotationPause = time.Second
	// maxPaced bounds the memory, at about 60 bytes a session.
	maxPaced = 1 << 17
)

// pace remembers the recent rotations of sessions in two generations: when the current
// one has lasted for a full burst or is full, the previous one is forgotten. It is safe
// for concurrent use. Each process has its own.
type pace struct {
	mu                sync.Mutex
	current, previous map[uuid.UUID]paced
	since             time.Time // when the current generation began
	maxPerGeneration  int       // maximum number of sessions in a generation
}

// paced are the recent rotations of a session.
type paced struct {
	fullAt int64 // when its burst is full again, in Unix nanoseconds
	// generation is that of its refresh token after the last rotation by this
	// process; other replicas may have rotated it further.
	generation uint32
}

func newPace(limit int) *pace {
	return &pace{current: make(map[uuid.UUID]paced), maxPerGeneration: limit / 2}
}

// wait returns how long the session has to wait before its next rotation. It is zero
// for a generation of its token that was replaced twice or more.
func (p *pace) wait(id uuid.UUID, presented uint32, now time.Time) time.Duration {
	p.mu.Lock()
	known := p.known(id)
	p.mu.Unlock()
	if known.fullAt == 0 || known.generation > presented && known.generation-presented > 1 {
		return 0
	}
	left := time.Duration(known.fullAt - now.UnixNano())
	if left > rotationBurst*rotationPause {
		// The clock went back. The old time would refuse refreshes until the clock
		// reaches it again.
		return 0
	}
	return max(left-(rotationBurst-1)*rotationPause, 0)
}

// rotated counts a rotation. The generation is that of the session's new token.
func (p *pace) rotated(id uuid.UUID, generation uint32, now time.Time) {
	at := now.UnixNano()
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.known(id)
	if known.fullAt > at+int64(rotationBurst*rotationPause) {
		known.fullAt = 0 // the clock went back
	}
	full := max(known.fullAt, at) + int64(rotationPause)
	// Concurrent rotations that all passed wait must not delay the next one further.
	full = min(full, at+int64(rotationBurst*rotationPause))
	if age := now.Sub(p.since); age >= rotationBurst*rotationPause || age < 0 || len(p.current) >= p.maxPerGeneration {
		p.current, p.previous, p.since = make(map[uuid.UUID]paced), p.current, now
	}
	p.current[id] = paced{full, max(known.generation, generation)}
}

// known returns the rotations of the session, or the zero value. The lock is held.
func (p *pace) known(id uuid.UUID) paced {
	if known, there := p.current[id]; there {
		return known
	}
	return p.previous[id]
}
