package personimport

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Meter prints the progress of an import, a line every few seconds.
type Meter struct {
	w     io.Writer
	size  int64
	clock func() time.Time
	start time.Time
	last  time.Time
}

// meterInterval is the time between two lines.
const meterInterval = 5 * time.Second

// NewMeter returns a meter for a file of size bytes. 0 means that the size is unknown.
func NewMeter(w io.Writer, size int64, clock func() time.Time) *Meter {
	now := clock()
	return &Meter{w: w, size: size, clock: clock, start: now, last: now}
}

// Done implements [Progress].
func (m *Meter) Done(rows int, bytes int64) {
	now := m.clock()
	if now.Sub(m.last) < meterInterval {
		return
	}
	m.last = now
	rate := float64(rows) / max(now.Sub(m.start).Seconds(), 0.001)
	text := fmt.Sprintf("%s rows, %s rows/s", Group(rows), Group(int(rate)))
	if m.size > 0 && bytes > 0 {
		left := time.Duration(float64(now.Sub(m.start)) * float64(m.size-bytes) / float64(bytes))
		text += fmt.Sprintf(", %d%%, about %s left", bytes*100/m.size, max(left, 0).Round(time.Second))
	}
	fmt.Fprintln(m.w, text)
}

// Waiting implements [Progress].
func (m *Meter) Waiting(err error, pause time.Duration) {
	fmt.Fprintf(m.w, "trying again in %s: %v\n", pause, err)
}

// Elapsed returns the time since the start.
func (m *Meter) Elapsed() time.Duration { return m.clock().Sub(m.start) }

// Group formats a number with commas between thousands.
func Group(n int) string {
	s := fmt.Sprint(n)
	var b strings.Builder
	for i, r := range s {
		if i > 0 && (len(s)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(r)
	}
	return b.String()
}
