package cutoffs

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// maxSkew is the maximum difference between this machine's clock and the database's.
const maxSkew = 2 * time.Second

// clock estimates the database's time: its time at the last query, plus the time
// since. Its methods except compare are safe for concurrent use.
type clock struct {
	// local is [Config.Clock], and wall is [Config.Wall].
	local          func() time.Time
	wall           func(own time.Time) time.Time
	lastComparison atomic.Pointer[comparison]
	// lastAgreed is the last comparison at which the two clocks were within maxSkew of each other.
	lastAgreed atomic.Pointer[comparison]
}

// comparison is the result of a query.
type comparison struct {
	// local is a reading of this machine's clock when the answer came, and database is the
	// database's time at that moment.
	local, database time.Time
}

// compare records the time that the database's clock had at some moment between asked
// and answered. It takes the smallest of the possible offsets: two clocks that may agree
// count as equal.
func (c *clock) compare(asked, database, answered time.Time) {
	local := c.wall(answered)
	low := database.Sub(local)
	offset := min(max(0, low), low+elapsed(asked, answered))
	result := &comparison{local: answered, database: local.Add(offset)}
	c.lastComparison.Store(result)
	if offset.Abs() <= maxSkew {
		c.lastAgreed.Store(result)
	}
}

// wasSet reports whether the database's clock was set since the last query: it is
// more than maxSkew off the estimate.
func (c *clock) wasSet(asked, database, answered time.Time) bool {
	last := c.lastComparison.Load()
	if last == nil {
		return false
	}
	estimate := last.now(answered)
	return estimate.Before(database.Add(-maxSkew)) || estimate.After(database.Add(elapsed(asked, answered)+maxSkew))
}

// elapsed returns how long a query took by the monotonic clock: this machine's clock
// may have been set meanwhile.
func elapsed(asked, answered time.Time) time.Duration { return max(0, answered.Sub(asked)) }

// wallReading returns the time without its monotonic clock reading.
func wallReading(t time.Time) time.Time { return t.Round(0) }

// now returns the database's time at local, a reading of this machine's clock. The time
// since the last query is measured by the monotonic clock, so setting this
// machine's clock does not change it.
func (c *comparison) now(local time.Time) time.Time {
	return c.database.Add(local.Sub(c.local)).UTC()
}

// now returns the database's time, and this machine's time before the first query.
func (c *clock) now() time.Time {
	now, _ := c.readings()
	return now
}

// latest returns the later of the database's time and the time at the last agreement of
// the clocks plus the time since. When the database's clock is set back, expired tokens
// must not become valid again.
func (c *clock) latest() time.Time {
	agreed, now := c.lastAgreed.Load(), c.now()
	if agreed == nil {
		return now
	}
	if then := agreed.now(c.local()); then.After(now) {
		return then
	}
	return now
}

// readings returns the database's time and this machine's wall clock time at the same
// moment, without monotonic readings.
func (c *clock) readings() (database, wall time.Time) {
	last := c.lastComparison.Load() // before the clock is read, so that it is not newer
	local := c.local()
	wall = c.wall(local)
	if last == nil {
		return wall.UTC(), wall
	}
	return last.now(local), wall
}

// ahead returns how far this machine's clock is ahead of the database's. The result
// changes at once when this machine's clock is set.
func (c *clock) ahead() time.Duration {
	database, wall := c.readings()
	return wall.Sub(database)
}

var errNoOffset = errors.New("this machine's clock could not be compared with the database's: the database has not answered recently")

// check returns why the time is unreliable, or nil. The last query must not be older than
// maxAge.
func (c *clock) check(maxAge time.Duration) error {
	last := c.lastComparison.Load()
	if last == nil {
		return errNoOffset
	}
	if age := c.local().Sub(last.local); age > maxAge || age < 0 {
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
	return fmt.Errorf("this machine's clock is %s %s the database's; synchronise both with NTP", off.Abs().Round(100*time.Millisecond), side)
}
