package storetest

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

// Bench measures the two hot paths and revocations. Besides the time it reports round
// trips per call, and rows and bytes per session.
func Bench(b *testing.B, open func(testing.TB) Harness) {
	benchRevocations(b, open)
	b.Run("Exchange/known account", func(b *testing.B) {
		f := newFixture(b, open(b))
		// Enough accounts that no one reaches the session limit.
		const accounts = 1000
		for i := range accounts {
			f.exchange(b, fmt.Sprintf("o-%d", i), t0)
		}
		f.measure(b, func(i int) { f.limited(b, fmt.Sprintf("o-%d", i%accounts), t0, session.DefaultMaxSessions) })
	})
	b.Run("Exchange/over the limit", func(b *testing.B) {
		f := newFixture(b, open(b))
		for range session.DefaultMaxSessions {
			f.exchange(b, "o-1", t0)
		}
		f.measure(b, func(int) { f.limited(b, "o-1", t0, session.DefaultMaxSessions) })
	})
	b.Run("Exchange/new account", func(b *testing.B) {
		f := newFixture(b, open(b))
		f.exchange(b, "o", t0)
		f.measure(b, func(i int) { f.limited(b, fmt.Sprintf("o-%d", i), t0, session.DefaultMaxSessions) })
	})
	b.Run("Refresh", func(b *testing.B) {
		f := newFixture(b, open(b))
		s := f.exchange(b, "o-1", t0)
		f.measure(b, func(i int) {
			if _, err := f.refresh(b.Context(), s.ID, uint32(i+1), t0.Add(time.Second)); err != nil {
				b.Fatal(err)
			}
		})
	})
	b.Run("Refresh/parallel sessions", func(b *testing.B) {
		f := newFixture(b, open(b))
		const sessions = 1000
		var ids [sessions]auth.Session
		for i := range ids {
			ids[i] = f.exchange(b, fmt.Sprintf("o-%d", i), t0)
		}
		var next atomic.Int64
		b.ResetTimer()
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			// Every worker has its own sessions.
			n := int(next.Add(1)-1) % sessions
			for gen := uint32(1); pb.Next(); gen++ {
				if _, err := f.refresh(b.Context(), ids[n].ID, gen, t0.Add(time.Second)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

func (f *fixture) measure(b *testing.B, call func(i int)) {
	sessions := f.number(b, `select count(*) from sessions`)
	rows := f.rows(b)
	bytes := f.number(b, f.Bytes)
	var trips int64
	if f.RoundTrips != nil {
		trips = f.RoundTrips()
	}
	n := 0
	for b.Loop() {
		call(n)
		n++
	}
	if f.RoundTrips != nil {
		b.ReportMetric(float64(f.RoundTrips()-trips)/float64(n), "roundtrips/op")
	}
	// A refresh creates no session: its figures are those of the existing one.
	if made := f.number(b, `select count(*) from sessions`) - sessions; made > 0 {
		b.ReportMetric(float64(f.rows(b)-rows)/float64(made), "rows/session")
		b.ReportMetric(float64(f.number(b, f.Bytes)-bytes)/float64(made), "B/session")
		return
	}
	b.ReportMetric(float64(f.rows(b)-rows)/float64(n), "rows/op")
	b.ReportMetric(float64(f.number(b, f.Bytes)-bytes)/float64(n), "B/op-on-disk")
}

// rows counts the rows of all tables that a log-in or a refresh could add to.
func (f *fixture) rows(b *testing.B) int {
	c := f.counts(b)
	return c.Identities + c.Sessions + c.Cutoffs + c.Audit
}

// benchRevocations measures a follower's query, which runs once a second, and an admin's
// revocations.
func benchRevocations(b *testing.B, open func(testing.TB) Harness) {
	b.Run("Cutoffs/nothing new", func(b *testing.B) {
		f := newFixture(b, open(b))
		f.mustRevoke(b, session.Target{All: true}, t0, 0)
		var last int64
		for b.Loop() {
			batch, err := f.Store.Cutoffs(b.Context(), last, 1000)
			if err != nil {
				b.Fatal(err)
			}
			last = batch.Last
		}
	})
	b.Run("Revoke/identity with 10 sessions", func(b *testing.B) {
		f := newFixture(b, open(b))
		var s auth.Session
		for b.Loop() {
			b.StopTimer()
			for range 10 {
				s = f.exchange(b, "o-1", t0)
			}
			b.StartTimer()
			f.mustRevoke(b, session.Target{Identity: s.Identity}, t0, 10)
		}
	})
	b.Run("Revoke/app with 1000 sessions", func(b *testing.B) {
		f := newFixture(b, open(b))
		for range 1000 {
			f.exchange(b, "o-1", t0)
		}
		want := 1000
		for b.Loop() {
			f.mustRevoke(b, session.Target{AppID: appA}, t0, want)
			want = 0
		}
	})
}
