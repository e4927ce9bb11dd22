package cutoffstest

import (
	"sync/atomic"
	"time"
)

// Machine simulates a machine whose wall clock can be set while its monotonic clock
// continues. Its wall clock is right at first. It is safe for concurrent use.
type Machine struct{ set atomic.Int64 }

// Set sets the wall clock forward, or back if by is negative.
func (m *Machine) Set(by time.Duration) { m.set.Add(int64(by)) }

// Wall returns the wall clock time at t, the true time: a [cutoffs.Config.Wall].
func (m *Machine) Wall(t time.Time) time.Time {
	return t.Round(0).Add(time.Duration(m.set.Load()))
}
