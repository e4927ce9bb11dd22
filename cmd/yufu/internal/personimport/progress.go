package personimport

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
)

// Meter tells people how far an import is: by a bar on a terminal, by a line now
// and then elsewhere.
type Meter struct {
	w     io.Writer
	size  int64
	clock func() time.Time
	start time.Time
	bar   *progressbar.ProgressBar
	last  time.Time
}

// quiet is how long nothing is said between two lines.
const quiet = 5 * time.Second

// NewMeter returns a meter of a file of so many bytes; 0 means that nobody knows.
func NewMeter(w io.Writer, terminal bool, size int64, clock func() time.Time) *Meter {
	m := &Meter{w: w, size: size, clock: clock, start: clock()}
	m.last = m.start
	if terminal {
		total := size
		if total == 0 {
			total = -1
		}
		m.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(w), progressbar.OptionSetWidth(30), progressbar.OptionFullWidth(),
			progressbar.OptionSetPredictTime(size > 0), progressbar.OptionSetElapsedTime(true), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetDescription("0 rows"),
		)
	}
	return m
}

// Done implements [Progress].
func (m *Meter) Done(rows int, bytes int64) {
	now := m.clock()
	rate := float64(rows) / max(now.Sub(m.start).Seconds(), 0.001)
	if m.bar != nil {
		_ = m.bar.Set64(bytes) // a bar that cannot be drawn is no reason to stop
		m.bar.Describe(fmt.Sprintf("%s rows, %s/s", Group(rows), Group(int(rate))))
		return
	}
	if now.Sub(m.last) < quiet {
		return
	}
	m.last = now
	text := fmt.Sprintf("%s rows, %s rows/s", Group(rows), Group(int(rate)))
	if m.size > 0 && bytes > 0 {
		left := time.Duration(float64(now.Sub(m.start)) * float64(m.size-bytes) / float64(bytes))
		text += fmt.Sprintf(", %d%%, about %s left", bytes*100/m.size, max(left, 0).Round(time.Second))
	}
	fmt.Fprintln(m.w, text)
}

// Waiting implements [Progress].
func (m *Meter) Waiting(err error, pause time.Duration) {
	m.Clear()
	fmt.Fprintf(m.w, "trying again in %s: %v\n", pause, err)
}

// Clear takes the bar away, so that something else can be said.
func (m *Meter) Clear() {
	if m.bar != nil {
		_ = m.bar.Clear()
	}
}

// Elapsed returns the time since the start.
func (m *Meter) Elapsed() time.Duration { return m.clock().Sub(m.start) }

// Group writes a number with commas between thousands.
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
