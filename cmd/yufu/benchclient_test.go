package main

import (
	"bufio"
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// benchClientVariable makes the test binary a client of benchmarks, so that the processor
// time of this process is that of the server alone.
const benchClientVariable = "BENCH_CLIENT"

func TestMain(m *testing.M) {
	if os.Getenv(benchClientVariable) == "" {
		os.Exit(m.Run())
	}
	if err := serveBenchClient(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "client of a benchmark:", err)
		os.Exit(1)
	}
}

// benchConnections is the number of connections that a client uses at once: a server with
// one connection sleeps between its requests, and wakes up more than it serves.
const benchConnections = 16

// benchJob tells a client to send the requests of a side to its server, in turn: Count on
// each connection. The first job of a side has its Address and Requests.
type benchJob struct {
	Side     int
	Address  string
	Requests [][]byte
	Count    int
}

// benchClient is a client in another process.
type benchClient struct {
	jobs *gob.Encoder
	done io.Reader
}

func newBenchClient(b *testing.B) *benchClient {
	b.Helper()
	client := exec.CommandContext(b.Context(), os.Args[0])
	client.Env, client.Stderr = append(os.Environ(), benchClientVariable+"=1"), os.Stderr
	jobs, err := client.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	done, err := client.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := client.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = jobs.Close()
		_ = client.Wait()
	})
	return &benchClient{gob.NewEncoder(jobs), done}
}

// run returns when the client has done the job.
func (c *benchClient) run(b *testing.B, job benchJob) {
	b.Helper()
	if err := c.jobs.Encode(job); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(c.done, make([]byte, 1)); err != nil {
		b.Fatal("the client failed")
	}
}

// serveBenchClient does jobs and confirms each with a byte.
func serveBenchClient(jobs io.Reader, done io.Writer) error {
	sides := map[int][]*benchConnection{}
	decode := gob.NewDecoder(jobs)
	for {
		var job benchJob
		if err := decode.Decode(&job); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		for i := range benchConnections {
			if job.Address == "" {
				break
			}
			conn, err := net.Dial("tcp", job.Address)
			if err != nil {
				return err
			}
			first := i * len(job.Requests) / benchConnections
			sides[job.Side] = append(sides[job.Side], &benchConnection{requests: job.Requests, next: first, conn: conn, in: bufio.NewReader(conn)})
		}
		failures := make(chan error)
		for _, c := range sides[job.Side] {
			go func() { failures <- c.roundTrips(job.Count) }()
		}
		for range sides[job.Side] {
			if err := <-failures; err != nil {
				return err
			}
		}
		if _, err := done.Write([]byte{'\n'}); err != nil {
			return err
		}
	}
}

// benchConnection is a connection that sends the requests of a side, beginning with next.
type benchConnection struct {
	requests [][]byte
	next     int
	conn     net.Conn
	in       *bufio.Reader
}

func (c *benchConnection) roundTrips(n int) error {
	for range n {
		if err := c.roundTrip(); err != nil {
			return err
		}
	}
	return nil
}

// roundTrip sends the next request and reads the answer, which must have the status 200 and
// a Content-Length.
func (c *benchConnection) roundTrip() error {
	if _, err := c.conn.Write(c.requests[c.next%len(c.requests)]); err != nil {
		return err
	}
	c.next++
	length := 0
	for first := true; ; first = false {
		line, err := c.in.ReadSlice('\n')
		if err != nil || first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) {
			return fmt.Errorf("status line = %q, %w, want 200", line, err)
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			length, _ = strconv.Atoi(string(bytes.TrimSpace(value)))
		}
		if len(line) == len("\r\n") {
			break
		}
	}
	_, err := c.in.Discard(length)
	return err
}

// medianCPU calls each function once for each of n batches, in turn, and returns the median
// processor time of each. Other work on the machine hardly counts.
func medianCPU(b *testing.B, n int, batches ...func()) []time.Duration {
	b.Helper()
	took := make([][]time.Duration, len(batches))
	for range n {
		for i, batch := range batches {
			began := cpuTime(b)
			batch()
			took[i] = append(took[i], cpuTime(b)-began)
		}
	}
	medians := make([]time.Duration, len(batches))
	for i := range took {
		slices.Sort(took[i])
		medians[i] = took[i][len(took[i])/2]
	}
	return medians
}

// cpuTime returns the processor time that this process has used.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
