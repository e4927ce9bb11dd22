//go:build unix

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
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/yufu-auth/yufu/api/gate"
	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/cutoffs/cutoffstest"
	"github.com/yufu-auth/yufu/pkg/servicekey"
)

// deliveries counts the cutoffs that the streams have written to their connections.
type deliveries struct {
	net.Listener
	written atomic.Int64
	// committed is when the cutoffs were committed, and late what each write came after
	// that.
	committed atomic.Pointer[time.Time]
	mu        sync.Mutex
	late      []time.Duration
}

func (d *deliveries) Accept() (net.Conn, error) {
	c, err := d.Listener.Accept()
	return &deliveryConn{c, d}, err
}

type deliveryConn struct {
	net.Conn
	of *deliveries
}

var cutoffEvent = []byte("event: cutoff\n")

func (c *deliveryConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if events := bytes.Count(p[:n], cutoffEvent); events > 0 {
		late := time.Since(*c.of.committed.Load())
		c.of.mu.Lock()
		c.of.late = append(c.of.late, late)
		c.of.mu.Unlock()
		c.of.written.Add(int64(events))
	}
	return n, err
}

// cpu returns the CPU time of this process.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFanOut measures what a revocation costs a replica with 2,000 subscribers, alone
// and in a burst of one each millisecond: the CPU time, and the time from the (last) commit until the events are
// written to 99 % of the connections. The subscribers read outside of the measurement.
func BenchmarkFanOut(b *testing.B) {
	const n = 2000
	for _, burst := range []int{1, 100} {
		b.Run(fmt.Sprintf("revocations/%d", burst), func(b *testing.B) {
			db := cutoffstest.New()
			follower, err := cutoffs.Open(b.Context(), cutoffs.Config{
				Store: db, MaxStaleness: bound, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				b.Fatal(err)
			}
			ctx, stop := context.WithCancel(b.Context())
			var running sync.WaitGroup
			running.Go(func() { follower.Run(ctx) })
			r := chi.NewRouter()
			r.Use(web.Events(slog.New(slog.DiscardHandler), func(web.Observation) {}, time.Now))
			gate.New(follower, func(*http.Request, servicekey.Scope) (servicekey.Key, error) { return servicekey.Key{}, nil }).Mount(r)
			srv := httptest.NewUnstartedServer(r)
			d := &deliveries{Listener: srv.Listener}
			srv.Listener = d
			srv.Start()
			var subscribers []net.Conn
			defer func() {
				stop()
				for _, c := range subscribers {
					_ = c.Close()
				}
				running.Wait()
				srv.Close()
			}()
			buf := make([]byte, 64<<10)
			// read reads from a connection until it has had so many events.
			read := func(c net.Conn, name string, events int) {
				for tail := 0; events > 0; {
					k, err := c.Read(buf[tail:])
					if err != nil {
						b.Fatal(err)
					}
					got := buf[:tail+k]
					events -= bytes.Count(got, []byte("event: "+name+"\n"))
					tail = 0
					if at := bytes.LastIndexByte(got, '\n') + 1; events > 0 {
						tail = copy(buf, got[at:]) // may be the beginning of an event
					}
				}
			}
			for range n {
				c, err := net.Dial("tcp", d.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				subscribers = append(subscribers, c)
				if _, err := io.WriteString(c, "GET /v1/revocations HTTP/1.1\r\nHost: yufu\r\nAccept: text/event-stream\r\n\r\n"); err != nil {
					b.Fatal(err)
				}
				read(c, "ready", 1)
			}
			list := make([]auth.Cutoff, burst)
			var used, p99 time.Duration
			writes := 0
			for b.Loop() {
				db.Prune(1 << 62)
				for i := range list {
					list[i] = ended()
				}
				d.late = d.late[:0]
				began, want := cpu(b), d.written.Load()+int64(n*burst)
				for _, c := range list {
					now := time.Now()
					d.committed.Store(&now)
					db.Commit(c)
					if burst > 1 {
						time.Sleep(time.Millisecond)
					}
				}
				for d.written.Load() < want {
					time.Sleep(time.Millisecond)
				}
				used += cpu(b) - began
				d.mu.Lock()
				slices.Sort(d.late)
				writes += len(d.late)
				p99 = max(p99, d.late[len(d.late)*99/100])
				d.mu.Unlock()
				for _, c := range subscribers {
					read(c, "cutoff", burst)
				}
			}
			b.ReportMetric(used.Seconds()*1000/float64(b.N)/float64(burst), "cpu-ms/revocation")
			b.ReportMetric(float64(writes)/float64(b.N)/n/float64(burst), "writes/revocation")
			b.ReportMetric(float64(p99.Milliseconds()), "p99-ms")
		})
	}
}
