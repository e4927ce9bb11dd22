package gate_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/yufu-auth/yufu/api/gate"
	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/cutoffs/cutoffstest"
	"github.com/yufu-auth/yufu/pkg/servicekey"
)

// feedOf returns the feed of a running follower of the store, and what stops the follower.
func feedOf(b *testing.B, store cutoffs.Store) (feed http.Handler, stop func()) {
	b.Helper()
	follower, err := cutoffs.Open(b.Context(), cutoffs.Config{
		Store: store, MaxStaleness: bound, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	var running sync.WaitGroup
	running.Go(func() { follower.Run(ctx) })
	r := chi.NewRouter()
	r.Use(web.Events(slog.New(slog.DiscardHandler), func(web.Observation) {}, time.Now))
	gate.New(follower, func(*http.Request, servicekey.Scope) (servicekey.Key, error) { return servicekey.Key{}, nil }).Mount(r)
	return r, func() {
		cancel()
		running.Wait()
	}
}

// BenchmarkStreams measures the cost of one among thousands of subscribers and its
// connection: the memory while idle, and the time from a commit until all have read
// the cutoff, divided by their number. Both ends are in this process, so the time
// includes the reading, and the memory is that of both ends; the reading end has a
// socket and no buffer.
func BenchmarkStreams(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			db := cutoffstest.New()
			r, stop := feedOf(b, db)
			srv := httptest.NewServer(r)
			subscribers := make([]net.Conn, n)
			defer func() {
				stop()
				for _, c := range subscribers {
					if c != nil {
						_ = c.Close()
					}
				}
				srv.Close()
			}()

			buf := make([]byte, 64<<10)
			// read reads from a connection until it has the event, to the end of
			// its chunk.
			read := func(c net.Conn, event string) int {
				got := 0
				for {
					k, err := c.Read(buf[got:])
					if err != nil {
						b.Fatal(err)
					}
					got += k
					if bytes.Contains(buf[:got], []byte("event: "+event+"\n")) && bytes.HasSuffix(buf[:got], []byte("\n\n\r\n")) {
						return got
					}
				}
			}
			before := held()
			for i := range subscribers {
				c, err := net.Dial("tcp", srv.Listener.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				subscribers[i] = c
				if _, err := io.WriteString(c, "GET /v1/revocations HTTP/1.1\r\nHost: yufu\r\nAccept: text/event-stream\r\n\r\n"); err != nil {
					b.Fatal(err)
				}
			}
			for _, c := range subscribers {
				if err := c.SetReadDeadline(time.Now().Add(10 * time.Minute)); err != nil {
					b.Fatal(err)
				}
				read(c, "ready")
			}
			each := float64(held()-before) / float64(n)
			sent := 0
			for b.Loop() {
				db.Prune(1 << 62) // the double reads all rows
				db.Commit(ended())
				for _, c := range subscribers {
					sent = read(c, "cutoff")
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/subscriber")
			b.ReportMetric(float64(sent), "B-sent/subscriber")
			b.ReportMetric(each, "B-held/subscriber")
		})
	}
}

// held returns the memory in use, stacks included.
func held() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
