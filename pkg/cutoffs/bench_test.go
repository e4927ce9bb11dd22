package cutoffs_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/cutoffs/cutoffstest"
)

// BenchmarkSubscribers measures the cost of one of thousands of subscribers: memory
// while nothing happens, and time for a cutoff and for a heartbeat, without the
// connection.
func BenchmarkSubscribers(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		// One buffer, like a handler that returns its buffer while it waits.
		var buf []byte
		measure := func(b *testing.B, who cutoffs.Subscriber, happen func(w *world, i int)) {
			w := newWorld(b, endedAll(1, 100)...)
			subs := make([]*cutoffs.Subscription, n)
			before := heap()
			for i := range subs {
				subs[i] = w.Subscribe("", who)
				buf, _, _ = subs[i].Next(buf[:0])
			}
			held := heap() - before
			i, written := 1000, 0
			for b.Loop() {
				happen(w, i)
				i++
				written = 0
				for _, s := range subs {
					buf, _, _ = s.Next(buf[:0])
					written += len(buf)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/subscriber")
			b.ReportMetric(float64(written)/float64(n), "B-sent/subscriber")
			b.ReportMetric(float64(held)/float64(n), "B-held/subscriber")
			runtime.KeepAlive(subs)
		}
		b.Run(fmt.Sprintf("cutoff/%d", n), func(b *testing.B) {
			measure(b, cutoffs.Subscriber{}, func(w *world, i int) {
				w.db.Prune(int64(i)) // the test double reads all rows
				w.db.Commit(ended(i))
				w.catchUp()
			})
		})
		// A cutoff of another app, for a key that is restricted to eight apps.
		b.Run(fmt.Sprintf("left out/%d", n), func(b *testing.B) {
			who := cutoffs.Subscriber{Apps: []string{"wx1", "wx2", "wx3", "wx4", "wx5", "wx6", "wx7", "wx8"}}
			measure(b, who, func(w *world, i int) {
				w.db.Prune(int64(i))
				w.db.Commit(of("wx9", ended(i)))
				w.catchUp()
			})
		})
		b.Run(fmt.Sprintf("heartbeat/%d", n), func(b *testing.B) {
			measure(b, cutoffs.Subscriber{}, func(w *world, _ int) { w.Beat() })
		})
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkSnapshot measures the snapshot of a new subscriber after many sessions were
// revoked within an hour.
func BenchmarkSnapshot(b *testing.B) {
	const n = 10_000
	w := newWorld(b, endedAll(1, n)...)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		s := w.Subscribe("", cutoffs.Subscriber{})
		for {
			var more <-chan struct{}
			buf, more, _ = s.Next(buf[:0])
			if !isClosed(more) {
				break
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/cutoff")
}

// BenchmarkLoad measures what the live cutoffs cost a replica: the time to load them at its
// start, without the database, and the memory that it keeps for them.
func BenchmarkLoad(b *testing.B) {
	const n = 100_000
	db := cutoffstest.New()
	db.Commit(endedAll(1, n)...)
	before := heap()
	var w *world
	for b.Loop() {
		w = openWorld(b, db, time.Now)
	}
	b.ReportMetric(b.Elapsed().Seconds()*1000/float64(b.N), "ms/load")
	b.ReportMetric(float64(heap()-before)/n, "B-held/cutoff")
	runtime.KeepAlive(w)
	runtime.KeepAlive(db)
}

// BenchmarkCatchUpIdle measures the follower's part of a query that finds nothing.
func BenchmarkCatchUpIdle(b *testing.B) {
	w := newWorld(b, auth.SessionEnded("", sid(1), time.Now()))
	b.ReportAllocs()
	for b.Loop() {
		w.catchUp()
	}
}
