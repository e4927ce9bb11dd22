package cutoffs

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// maxSkew is how far this machine's clock may be off the database's.
const maxSkew = 2 * time.Second

// clock estimates the database's time: its time at the last question, plus the time
// since. Its methods are safe for concurrent use, except
// compare.
type clock struct {
	// own is [Config.Clock], and wall is [Config.Wall].
	own  func() time.Time
	wall func(own time.Time) time.Time
	last atomic.Pointer[comparison]
	// agreed is the last one at which the two clocks were within maxSkew of each other.
	agreed atomic.Pointer[comparison]
}

// comparison is the result of the last question.
type comparison struct {
	// at is a reading of this machine's clock when the answer came, and theirs is the
	// database's time at that moment.
	at, theirs time.Time
}

// compare records what the database's clock said at some moment between asked and
// answered. Of the offsets that are possible, it takes the smallest: two clocks that
// may agree are taken to agree.
func (c *clock) compare(asked, theirs, answered time.Time) {
	ours := c.wall(answered)
	low := theirs.Sub(ours)
	offset := min(max(0, low), low+took(asked, answered))
	result := &comparison{at: answered, theirs: ours.Add(offset)}
	c.last.Store(result)
	if offset.Abs() <= maxSkew {
		c.agreed.Store(result)
	}
}

// wasSet reports whether the database's clock was set since the last question: it is
// more than maxSkew off the estimate.
func (c *clock) wasSet(asked, theirs, answered time.Time) bool {
	last := c.last.Load()
	if last == nil {
		return false
	}
	estimate := last.now(answered)
	return estimate.Before(theirs.Add(-maxSkew)) || estimate.After(theirs.Add(took(asked, answered)+maxSkew))
}

// took returns how long a question took by the monotonic clock: this machine's clock
// may have been set meanwhile.
func took(asked, answered time.Time) time.Duration { return max(0, answered.Sub(asked)) }

// wallReading returns the time without its monotonic clock reading.
func wallReading(t time.Time) time.Time { return t.Round(0) }

// now returns the database's time at own, a reading of this machine's clock. The time
// since the last question is measured by the monotonic clock, so setting this
// machine's clock does not change it.
func (c *comparison) now(own time.Time) time.Time {
	return c.theirs.Add(own.Sub(c.at)).UTC()
}

// now returns the database's time, which is this machine's before the first question.
func (c *clock) now() time.Time {
	now, _ := c.both()
	return now
}

// latest returns the database's time, or the time as it was when the clocks agreed last
// and what has passed since, if that is later: a database's clock that is set back must
// not let what has expired live again.
func (c *clock) latest() time.Time {
	agreed, now := c.agreed.Load(), c.now()
	if agreed == nil {
		return now
	}
	if then := agreed.now(c.own()); then.After(now) {
		return then
	}
	return now
}

// both returns the database's time and this machine's wall clock time at the same
// moment, without monotonic readings.
func (c *clock) both() (theirs, ours time.Time) {
	last := c.last.Load() // before the clock is read: it is not from after that
	own := c.own()
	ours = c.wall(own)
	if last == nil {
		return ours.UTC(), ours
	}
	return last.now(own), ours
}

// ahead returns how far this machine's clock is ahead of the database's. When this
// machine's clock is set, it changes at once.
func (c *clock) ahead() time.Duration {
	theirs, ours := c.both()
	return ours.Sub(theirs)
}

var errNoOffset = errors.New("this machine's clock could not be compared with the database's: the database has not answered lately")

// check returns why the time cannot be relied on, or nil. The last question must not be
// older than maxAge.
func (c *clock) check(maxAge time.Duration) error {
	last := c.last.Load()
	if last == nil {
		return errNoOffset
	}
	if age := c.own().Sub(last.at); age > maxAge || age < 0 {
		return errNoOffset
	}
	off := c.ahead()
	if off.Abs() <= maxSkew {
		return nil
	}
	side := "ahead of"
	if off < 0 {
		side = "behind"
	}
	return fmt.Errorf("this machine's clock is %s %s the database's; let NTP set both", off.Abs().Round(100*time.Millisecond), side)
}
