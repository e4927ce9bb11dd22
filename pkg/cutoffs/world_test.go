package cutoffs_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/cutoffs/cutoffstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const maxStaleness = 30 * time.Second

// world is a database and a replica that follows it.
type world struct {
	*cutoffs.Follower
	t   testing.TB
	db  *cutoffstest.Store
	log *logLines
}

// newWorld opens a follower whose clock is time.Now.
func newWorld(t testing.TB, loaded ...auth.Cutoff) *world {
	t.Helper()
	db := cutoffstest.New()
	db.Commit(loaded...)
	return openWorld(t, db, time.Now)
}

func openWorld(t testing.TB, db *cutoffstest.Store, clock func() time.Time) *world {
	t.Helper()
	w := &world{t: t, db: db, log: &logLines{}}
	f, err := cutoffs.Open(t.Context(), config(db, clock, w.log))
	if err != nil {
		t.Fatal(err)
	}
	w.Follower = f
	return w
}

func config(db cutoffs.Store, clock func() time.Time, log io.Writer) cutoffs.Config {
	return cutoffs.Config{
		Store: db, MaxStaleness: maxStaleness, Clock: clock,
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelInfo})),
	}
}

// logLines are the logged lines.
type logLines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// count returns the number of lines with the text.
func (l *logLines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

// run runs the follower until the test ends.
func (w *world) run() {
	w.t.Helper()
	ctx, stop := context.WithCancel(w.t.Context())
	var running sync.WaitGroup
	running.Go(func() { w.Run(ctx) })
	w.t.Cleanup(func() {
		stop()
		running.Wait()
	})
	synctest.Wait()
}

func (w *world) catchUp() {
	w.t.Helper()
	if err := w.CatchUp(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// sid returns the id of the session with this number.
func sid(n int) uuid.UUID {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

// ended returns the cutoff of the session with this number, which ends now.
func ended(n int) auth.Cutoff { return auth.SessionEnded("", sid(n), time.Now()) }

func endedAll(from, to int) []auth.Cutoff {
	var all []auth.Cutoff
	for n := from; n <= to; n++ {
		all = append(all, ended(n))
	}
	return all
}

// knows reports whether the replica refuses the session with this number.
func (w *world) knows(n int) bool {
	return w.Set().Hits(cutoff.Token{Session: sid(n).String(), Ver: 1})
}

func (w *world) wantKnown(want bool, numbers ...int) {
	w.t.Helper()
	for _, n := range numbers {
		if w.knows(n) != want {
			w.t.Errorf("cutoff of session %d known = %v, want %v", n, !want, want)
		}
	}
}

func (w *world) wantAge(want time.Duration) {
	w.t.Helper()
	if got := w.Age(); got != want {
		w.t.Errorf("Age() = %v, want %v", got, want)
	}
}

// subscriber reads a subscription as a validator does.
type subscriber struct {
	t    testing.TB
	sub  *cutoffs.Subscription
	more <-chan struct{}
	err  error
}

// of returns a session's cutoff with the app of the session.
func of(app string, c auth.Cutoff) auth.Cutoff {
	c.AppID = app
	return c
}

func (w *world) subscribeTo(lastEventID string, apps ...string) *subscriber {
	return &subscriber{t: w.t, sub: w.Subscribe(lastEventID, cutoffs.Subscriber{Apps: apps})}
}

func (w *world) subscribe(lastEventID string) *subscriber {
	return &subscriber{t: w.t, sub: w.Subscribe(lastEventID, cutoffs.Subscriber{})}
}

// next reads once and decodes the events.
func (s *subscriber) next() []cutoff.Event {
	s.t.Helper()
	var b []byte
	b, s.more, s.err = s.sub.Next(nil)
	return parse(s.t, b)
}

func parse(t testing.TB, b []byte) []cutoff.Event {
	t.Helper()
	r := cutoff.NewReader(bytes.NewReader(b))
	var all []cutoff.Event
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
}

// rest reads until there is no more.
func (s *subscriber) rest() []cutoff.Event {
	s.t.Helper()
	all := s.next()
	for s.err == nil && isClosed(s.more) {
		all = append(all, s.next()...)
	}
	return all
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// brief returns an event as text: its name, its number or age, and its id.
func brief(t testing.TB, e cutoff.Event) string {
	t.Helper()
	text := e.Name
	switch e.Name {
	case cutoff.EventCutoff:
		c, err := cutoff.ParseCutoff(e.Data)
		if err != nil {
			t.Fatal(err)
		}
		text = "cutoff " + briefCutoff(t, c)
	case cutoff.EventReady, cutoff.EventHeartbeat:
		h, err := cutoff.ParseHeartbeat(e.Data)
		if err != nil {
			t.Fatal(err)
		}
		text += " " + strconv.FormatInt(h.AgeMS, 10) + "ms"
		if h.MaxStalenessMS != maxStaleness.Milliseconds() {
			t.Errorf("max_staleness_ms = %d, want %d", h.MaxStalenessMS, maxStaleness.Milliseconds())
		}
	}
	if e.ID != "" {
		text += " @" + e.ID
	}
	return text
}

func briefCutoff(t testing.TB, c cutoff.Cutoff) string {
	t.Helper()
	switch c.Kind {
	case cutoff.KindSession:
		id, err := uuid.Parse(c.Session)
		if err != nil {
			t.Fatal(err)
		}
		return strconv.FormatUint(binary.BigEndian.Uint64(id[8:]), 10)
	case cutoff.KindApp:
		return c.App + "/" + strconv.FormatInt(c.Epoch, 10)
	default:
		return c.KID
	}
}

func wantEvents(t testing.TB, got []cutoff.Event, want ...string) {
	t.Helper()
	var text []string
	for _, e := range got {
		text = append(text, brief(t, e))
	}
	if !slices.Equal(text, want) {
		t.Errorf("events = %q, want %q", text, want)
	}
}

// inBubble runs a subtest in a bubble of testing/synctest.
func inBubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, test)
	})
}
