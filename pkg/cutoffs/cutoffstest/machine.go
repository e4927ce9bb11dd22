package cutoffstest

import (
	"sync/atomic"
	"time"
	"unsafe"
)

// Machine is the clocks of a machine: one on the wall, which can be set, and a
// monotonic one, which cannot. It is safe for concurrent use.
type Machine struct {
	// Clock tells how time passes. It need not have a monotonic reading: the one of
	// time.Now has none in a bubble of testing/synctest.
	Clock func() time.Time

	set atomic.Int64
}

// Set sets the clock on the wall forward, or back if by is negative.
func (m *Machine) Set(by time.Duration) { m.set.Add(int64(by)) }

// boot has a monotonic reading: no bubble is entered yet.
var boot = time.Now()

// Now returns the time as a program on the machine reads it, with a monotonic reading.
func (m *Machine) Now() time.Time {
	t := m.Clock()
	return setWall(boot.Add(t.Sub(boot)), t.Round(0).Add(time.Duration(m.set.Load())))
}

// setWall returns a reading with the monotonic part of t and the given time on the
// wall. Package time has no way to make one, so it is written where package time keeps
// it: 33 bits of seconds since 1885 and 30 bits of nanoseconds.
func setWall(t, wall time.Time) time.Time {
	const from, bits = -2682288000, 30 // 1885-01-01T00:00:00Z
	r := t
	*(*uint64)(unsafe.Pointer(&r)) = 1<<63 | uint64(wall.Unix()-from)<<bits | uint64(wall.Nanosecond()) //nolint:gosec // checked below
	if r.Sub(t) != 0 || !r.Round(0).Equal(wall) {
		panic("cutoffstest: package time keeps the time otherwise now")
	}
	return r
}
