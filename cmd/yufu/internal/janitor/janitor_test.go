package janitor

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fullStore has this number of expired rows. It fails once with fail, if that is set.
type fullStore struct {
	rows  int
	fail  error
	calls chan time.Time
	// clock is the database's. If it is zero, start sets it a day ahead of the janitor's.
	clock time.Time
}

func (s *fullStore) Now(context.Context) (time.Time, error) { return s.clock, nil }

func (s *fullStore) DeleteExpired(_ context.Context, before, now time.Time, limit int) (int, error) {
	s.calls <- before
	if err := s.fail; err != nil {
		s.fail = nil
		return 0, err
	}
	n := min(limit, s.rows)
	s.rows -= n
	return n, nil
}

func TestRun(t *testing.T) {
	now := time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)
	start := func(s *fullStore) (ticks chan time.Time, stop func()) {
		ticks = make(chan time.Time)
		if s.clock.IsZero() {
			s.clock = now.Add(24 * time.Hour)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			Run(ctx, s, slog.New(slog.DiscardHandler), func() time.Time { return now }, func() <-chan time.Time { return ticks })
			close(done)
		}()
		return ticks, func() { cancel(); <-done }
	}
	t.Run("a round deletes batch after batch, and only after the first pause", func(t *testing.T) {
		s := &fullStore{rows: 2*batch + 1, calls: make(chan time.Time, 10)}
		ticks, stop := start(s)
		if len(s.calls) != 0 {
			t.Error("rows were deleted before the first pause")
		}
		ticks <- now
		for range 3 {
			if before := <-s.calls; !before.Equal(now.Add(-keep)) {
				t.Errorf("sessions deleted that expired before %s, want %s", before, now.Add(-keep))
			}
		}
		stop()
		if s.rows != 0 || len(s.calls) != 0 {
			t.Errorf("%d rows are left after %d extra calls, want 0 and 0", s.rows, len(s.calls))
		}
	})
	t.Run("a failed round is tried again", func(t *testing.T) {
		s := &fullStore{rows: 1, fail: errors.New("down"), calls: make(chan time.Time, 10)}
		ticks, stop := start(s)
		ticks <- now
		ticks <- now
		stop()
		if s.rows != 0 {
			t.Error("the row is left after the second round")
		}
	})
	t.Run("a clock ahead of the database's deletes nothing early", func(t *testing.T) {
		s := &fullStore{clock: now.Add(-100 * 24 * time.Hour), calls: make(chan time.Time, 10)}
		ticks, stop := start(s)
		ticks <- now
		if before := <-s.calls; !before.Equal(s.clock.Add(-keep)) {
			t.Errorf("sessions deleted that expired before %s, want %s", before, s.clock.Add(-keep))
		}
		stop()
	})
}
