package cutoffs

import (
	"errors"
	"testing"
	"time"
)

func TestClockBeforeFirstQuery(t *testing.T) {
	t.Parallel()
	own := time.Date(2026, 7, 1, 12, 0, 0, 0, time.FixedZone("", 8*3600))
	c := clock{local: func() time.Time { return own }, wall: wallReading}
	if err := c.check(time.Hour); !errors.Is(err, errNoOffset) {
		t.Errorf("check() error = %v, want %v", err, errNoOffset)
	}
	if got := c.now(); got != own.UTC() {
		t.Errorf("now() = %v, want this machine's time %v", got, own.UTC())
	}
	if c.wasSet(own, own.Add(time.Hour), own) {
		t.Error("wasSet() = true before the first query, want false")
	}
}
