package session

import (
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestPaceMemory(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	spend := func(p *pace, id uuid.UUID, now time.Time) {
		for range 10 * rotationBurst { // concurrent: no rotation waited for another
			p.rotated(id, 2, now)
		}
	}
	t.Run("the memory is bounded under a flood, and the newest sessions stay known", func(t *testing.T) {
		t.Parallel()
		const limit = 1 << 10
		p := newPace(limit)
		for range 10 * limit {
			id := uuid.New()
			spend(p, id, now)
			if p.wait(id, 2, now) != rotationPause {
				t.Fatal("wait() = 0 for a session that has used up its burst")
			}
			if n := len(p.current) + len(p.previous); n > limit {
				t.Fatalf("%d sessions are remembered, want at most %d", n, limit)
			}
		}
	})
	t.Run("only sessions with a full burst are forgotten", func(t *testing.T) {
		t.Parallel()
		p := newPace(1 << 10)
		id := uuid.New()
		spend(p, id, now)
		for i := range 28 {
			at := now.Add(time.Duration(i) * time.Second)
			p.rotated(uuid.New(), 2, at)
			if i == 0 && p.wait(id, 2, at) != rotationPause {
				t.Error("wait() = 0 right after the burst, want a wait")
			}
		}
		for i := range 100 {
			p.rotated(uuid.New(), 2, now.Add(time.Duration(i)*30*time.Second))
		}
		if n := len(p.current) + len(p.previous); n > 2 {
			t.Errorf("%d sessions are remembered, want 2", n)
		}
	})
	t.Run("a clock that went back leaves a session its burst", func(t *testing.T) {
		t.Parallel()
		p := newPace(1 << 10)
		id := uuid.New()
		p.rotated(id, 2, now)
		for i := range rotationBurst {
			if wait := p.wait(id, 2, now.Add(-time.Hour)); wait != 0 {
				t.Fatalf("after %d rotations: wait %s, want none", i, wait)
			}
			p.rotated(id, 2, now.Add(-time.Hour))
		}
	})
	t.Run("a clock that went back delays no session for longer than a pause", func(t *testing.T) {
		t.Parallel()
		for _, back := range []time.Duration{time.Millisecond, time.Second, 29 * time.Second, time.Minute, time.Hour} {
			for rotations := range 2 * rotationBurst {
				p := newPace(1 << 10)
				id := uuid.New()
				for range rotations {
					p.rotated(id, 2, now)
				}
				at := now.Add(-back)
				if wait := p.wait(id, 2, at); wait > rotationPause || p.wait(id, 2, at.Add(wait)) != 0 {
					t.Errorf("%s back after %d rotations: wait %s, and then %s", back, rotations, wait, p.wait(id, 2, at.Add(wait)))
				}
			}
		}
	})
}
