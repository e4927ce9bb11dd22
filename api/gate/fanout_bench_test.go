//go:build unix

package gate_test

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/cutoffs/cutoffstest"
)

// deliveries counts the cutoffs that the streams have written to their connections.
type deliveries struct {
	net.Listener
	written atomic.Int64
	// want is the value of written at which all is signalled.
	want atomic.Int64
	all  chan struct{}
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
		if want := c.of.want.Load(); c.of.written.Add(int64(events)) == want {
			c.of.all <- struct{}{}
		}
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
// and in a burst of one each millisecond: the CPU time, and the time from the (last) commit
// until the events are written to 99 % of the connections. The subscribers read outside of
// the measurement. A run that only shows that the benchmark works has 50 subscribers.
func BenchmarkFanOut(b *testing.B) {
	n := 2000
	if flag.Lookup("test.benchtime").Value.String() == "1x" {
		n = 50
	}
	for _, burst := range []int{1, 100} {
		b.Run(fmt.Sprintf("revocations/%d", burst), func(b *testing.B) {
			db := cutoffstest.New()
			r, stop := feedOf(b, db)
			srv := httptest.NewUnstartedServer(r)
			d := &deliveries{Listener: srv.Listener, all: make(chan struct{}, 1)}
			srv.Listener = d
			srv.Start()
			var subscribers []net.Conn
			defer func() {
				stop()
				for _, c := range subscribers {
					_ = c.Close()
				}
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
			pace := time.NewTicker(time.Millisecond)
			defer pace.Stop()
			var used, p99 time.Duration
			writes := 0
			for b.Loop() {
				db.Prune(1 << 62)
				for i := range list {
					list[i] = ended()
				}
				d.mu.Lock()
				d.late = d.late[:0]
				d.mu.Unlock()
				began := cpu(b)
				d.want.Store(d.written.Load() + int64(n*burst))
				for _, c := range list {
					now := time.Now()
					d.committed.Store(&now)
					db.Commit(c)
					if burst > 1 {
						<-pace.C
					}
				}
				select {
				case <-d.all:
				case <-time.After(time.Minute):
					b.Fatalf("%d of %d events were written", d.written.Load(), d.want.Load())
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
			b.ReportMetric(float64(writes)/float64(b.N)/float64(n)/float64(burst), "writes/revocation")
			b.ReportMetric(float64(p99.Milliseconds()), "p99-ms")
		})
	}
}
