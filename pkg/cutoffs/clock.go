package cutoffs

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// maxSkew is how far this machine's clock may be off the database's. Windows and
// expiries are reckoned by the replica that serves a request, so replicas have to
// agree.
const maxSkew = 2 * time.Second

// clock is the database's time as this replica reckons it: what the database's
// clock said at the last question, and what has passed since.
type clock struct {
	mu sync.Mutex
	// at is this machine's time of the last question, with its monotonic reading;
	// offset is what the database's clock was ahead of it then.
	at     time.Time
	offset time.Duration
}

// measure takes in what the database's clock said at some moment between asked and
// answered. Of the offsets that this allows, the smallest is taken: two clocks that
// may agree are taken to agree.
func (c *clock) measure(asked, theirs, answered time.Time) {
	low, high := wall(theirs).Sub(wall(answered)), wall(theirs).Sub(wall(asked))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at, c.offset = answered, min(max(0, low), high)
}

// wall drops the monotonic reading.
func wall(t time.Time) time.Time { return t.Round(0) }

// now returns the database's time at own, a reading of this machine's clock. What
// has passed since the last question is told by the monotonic clock, so a step of
// this machine's clock moves nothing.
func (c *clock) now(own time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at.IsZero() {
		return wall(own).UTC()
	}
	return wall(c.at).Add(c.offset + own.Sub(c.at)).UTC()
}

var errNoOffset = errors.New("how far this machine's clock is off the database's is not known: the database has not answered lately")

// check says why the time should not be relied on at own, or returns nil. The last
// question must not be older than maxAge.
func (c *clock) check(own time.Time, maxAge time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at.IsZero() {
		return errNoOffset
	}
	passed := own.Sub(c.at)
	// A machine that slept, or whose clock was set, since the last question.
	stepped := wall(own).Sub(wall(c.at)) - passed
	if passed > maxAge || passed < 0 {
		return errNoOffset
	}
	off := stepped - c.offset
	if off.Abs() <= maxSkew {
		return nil
	}
	side := "ahead of"
	if off < 0 {
		side = "behind"
	}
	return fmt.Errorf("this machine's clock is %s %s the database's; let NTP set both", off.Abs().Round(100*time.Millisecond), side)
}
