package cutoff_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
)

func event(name, id, data string) cutoff.Event {
	return cutoff.Event{Name: name, ID: id, Data: []byte(data)}
}

// events reads to the end and returns the events and the final error.
func events(r io.Reader) (all []cutoff.Event, err error) {
	reader := cutoff.NewReader(r)
	for {
		e, err := reader.Next()
		if err != nil {
			return all, err
		}
		all = append(all, e)
	}
}

func TestReader(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stream string
		want   []cutoff.Event
		end    error
	}{
		"an empty stream":                     {"", nil, io.EOF},
		"lines that end in LF":                {"event: a\nid: 1\ndata: x\n\n", []cutoff.Event{event("a", "1", "x")}, io.EOF},
		"lines that end in CR LF":             {"event: a\r\nid: 1\r\ndata: x\r\n\r\n", []cutoff.Event{event("a", "1", "x")}, io.EOF},
		"lines that end in CR":                {"event: a\rid: 1\rdata: x\r\r", []cutoff.Event{event("a", "1", "x")}, io.EOF},
		"a byte order mark":                   {"\xef\xbb\xbfdata: x\n\n", []cutoff.Event{event("", "", "x")}, io.EOF},
		"a byte order mark after the start":   {"data: x\n\xef\xbb\xbfdata: y\n\n", []cutoff.Event{event("", "", "x")}, io.EOF},
		"no space after the colon":            {"event:a\ndata:x\n\n", []cutoff.Event{event("a", "", "x")}, io.EOF},
		"only one space is removed":           {"data:  x\n\n", []cutoff.Event{event("", "", " x")}, io.EOF},
		"a field without a colon":             {"data\n\n", []cutoff.Event{event("", "", "")}, io.EOF},
		"data on several lines":               {"data: x\ndata: y\n\n", []cutoff.Event{event("", "", "x\ny")}, io.EOF},
		"comments":                            {": hi\n\n:\n: x\ndata: x\n: y\n\n:", []cutoff.Event{event("", "", "x")}, io.ErrUnexpectedEOF},
		"fields that are not ours":            {"retry: 10\nfoo: bar\ndata: x\n\n", []cutoff.Event{event("", "", "x")}, io.EOF},
		"events without data":                 {"event: a\n\nid: 1\n\ndata: x\n\n", []cutoff.Event{event("", "", "x")}, io.EOF},
		"an id with NUL":                      {"id: 1\x00\ndata: x\n\n", []cutoff.Event{event("", "", "x")}, io.EOF},
		"an id belongs only to its own event": {"id: 1\ndata: x\n\ndata: y\n\n", []cutoff.Event{event("", "1", "x"), event("", "", "y")}, io.EOF},
		"cut inside a line":                   {"data: x\n\ndata: y", []cutoff.Event{event("", "", "x")}, io.ErrUnexpectedEOF},
		"cut inside an event":                 {"data: x\n\ndata: y\n", []cutoff.Event{event("", "", "x")}, io.ErrUnexpectedEOF},
		"a line that is too long":             {"data: " + strings.Repeat("x", cutoff.MaxEvent), nil, cutoff.ErrTooLong},
		"a comment that is too long":          {":" + strings.Repeat("x", cutoff.MaxEvent), nil, cutoff.ErrTooLong},
		"an event of too many lines":          {strings.Repeat("data: x\n", cutoff.MaxEvent), nil, cutoff.ErrTooLong},
		"an event of too many foreign fields": {strings.Repeat("x: x\n", cutoff.MaxEvent), nil, cutoff.ErrTooLong},
		"comments do not add to an event":     {strings.Repeat(": x\n", cutoff.MaxEvent) + "data: x\n\n", []cutoff.Event{event("", "", "x")}, io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for how, r := range map[string]io.Reader{
				"at once":      strings.NewReader(c.stream),
				"byte by byte": iotest.OneByteReader(strings.NewReader(c.stream)),
			} {
				got, end := events(r)
				if !reflect.DeepEqual(got, c.want) || !errors.Is(end, c.end) {
					t.Errorf("%s: events = %q, error %v, want %q, error %v", how, got, end, c.want, c.end)
				}
			}
		})
	}
	t.Run("an event is returned before the next byte arrives", func(t *testing.T) {
		t.Parallel()
		for _, end := range []string{"\n\n", "\r\r", "\r\n\r\n"} {
			in, out := io.Pipe()
			go func() { _, _ = out.Write([]byte("data: x" + end)) }()
			r := cutoff.NewReader(in)
			if e, err := r.Next(); err != nil || string(e.Data) != "x" {
				t.Errorf("line end %q: Next() = %q, %v", end, e.Data, err)
			}
			in.Close()
		}
	})
	t.Run("an error of the connection is passed on", func(t *testing.T) {
		t.Parallel()
		broken := errors.New("connection reset")
		if _, err := events(iotest.ErrReader(broken)); !errors.Is(err, broken) {
			t.Error(err)
		}
	})
}

// FuzzReader checks that the reader is bounded, that the result does not depend on how
// the bytes arrive, and that events can be written and read again.
func FuzzReader(f *testing.F) {
	for _, name := range []string{"snapshot.sse", "reset.sse"} {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("\xef\xbb\xbfdata\r\rid: \x00\r\n: c\ndata: \n\n"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		all, end := events(bytes.NewReader(stream))
		slow, slowEnd := events(iotest.OneByteReader(bytes.NewReader(stream)))
		if !reflect.DeepEqual(all, slow) || !errors.Is(slowEnd, end) {
			t.Fatalf("byte by byte: %q, error %v; at once: %q, error %v", slow, slowEnd, all, end)
		}
		if !errors.Is(end, io.EOF) && !errors.Is(end, io.ErrUnexpectedEOF) && !errors.Is(end, cutoff.ErrTooLong) {
			t.Fatalf("final error = %v", end)
		}
		var again []byte
		for _, e := range all {
			if n := len(e.Name) + len(e.ID) + len(e.Data); n > cutoff.MaxEvent {
				t.Fatalf("Next() returned an event of %d bytes", n)
			}
			if bytes.ContainsRune([]byte(e.Name), 0) {
				return
			}
			if c, err := cutoff.ParseCutoff(e.Data); err == nil && c.Check() != nil {
				t.Fatalf("ParseCutoff(%q) = %+v", e.Data, c)
			}
			_, _ = cutoff.ParseHeartbeat(e.Data)
			again = cutoff.AppendEvent(again, e)
		}
		if len(again) > cutoff.MaxEvent {
			return // a line may grow by the space after its colon
		}
		if got, _ := events(bytes.NewReader(again)); !reflect.DeepEqual(got, all) {
			t.Fatalf("events = %q, after writing and reading again %q", all, got)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	one := cutoff.AppendEvent(nil, cutoff.Cutoff{Kind: cutoff.KindSession, Session: "01900000-0000-7c00-8000-00000000000a", Ver: 4}.Event("7f3a.42"))
	b.SetBytes(int64(len(one)))
	b.ReportAllocs()
	r := cutoff.NewReader(&endless{one: one})
	for range b.N {
		if _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

// endless repeats its bytes for ever.
type endless struct {
	one []byte
	at  int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.one[e.at:])
	e.at = (e.at + n) % len(e.one)
	return n, nil
}
