package cutoffs

import (
	"errors"
	"slices"
	"time"

	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
)

// ErrClosed means that the replica is shutting down.
var ErrClosed = errors.New("cutoffs: the feed is closed")

// Subscriber is who follows the feed, or asks for pages of it.
type Subscriber struct {
	// Pinned is the app to which the service key is pinned, "" for none.
	Pinned string
	// Apps restricts the subscriber to what concerns these apps: the cutoffs of the
	// apps and of their sessions, and those of keys. Empty means everything.
	Apps []string
	// Kinds are the kinds beyond the base kinds that the subscriber knows.
	Kinds []cutoff.Kind
}

// wants reports whether the subscriber is told of the entry. One whose app is not known
// is for everybody: a revocation must not be lost.
//
// A cutoff of a further kind goes to those who know the kind, in place of the base
// cutoffs before it that say the same. As it comes after them, a subscriber
// that stopped between them is told it.
func (s *Subscriber) wants(e *entry) bool {
	switch {
	case e.coveredBy != "" && slices.Contains(s.Kinds, e.coveredBy):
		return false
	case !e.wire.Kind.Base() && !slices.Contains(s.Kinds, e.wire.Kind):
		return false
	}
	return len(s.Apps) == 0 || e.app == "" || slices.Contains(s.Apps, e.app)
}

// Subscription is one subscriber of the feed. It is used by one goroutine and
// needs no end: it holds nothing.
type Subscription struct {
	f          *Follower
	resumeID   string
	subscriber Subscriber
	// history is that of position; zero before the first call.
	history int
	// position is the id up to which everything was handed out.
	position int64
	// snapshot says that events carry no id, as until the first ready.
	snapshot bool
	// skipped says that entries were left out since the last id that was handed out.
	skipped    bool
	ready      bool
	heartbeats int
}

const (
	// chunkSize is about how much [Subscription.Next] hands out at once, in bytes.
	chunkSize = 64 << 10
	// chunkEntries is how many entries it looks at for that, which bounds the time for
	// which a subscriber holds the lock that all share.
	chunkEntries = 4096
)

// closedChan says that there is more: it is closed.
var closedChan = func() <-chan struct{} { c := make(chan struct{}); close(c); return c }()

// Subscribe returns a subscription that goes on after the event id that the
// subscriber saw last, or begins with a snapshot when that is empty or cannot
// be resumed.
func (f *Follower) Subscribe(lastEventID string, who Subscriber) *Subscription {
	return &Subscription{f: f, resumeID: lastEventID, subscriber: who}
}

// Next appends to dst what the subscriber must be told now, as server-sent
// events of about 64 KiB at most, and returns a channel that is closed when
// there is more. What it appends may be nothing. It returns [ErrClosed] when
// the replica is shutting down.
//
// Ready and heartbeats state the age of everything handed out before them, so there is
// none while entries are left.
func (s *Subscription) Next(dst []byte) ([]byte, <-chan struct{}, error) {
	dst, v, changed, err := s.next(dst)
	if v.event == "" {
		return dst, changed, err
	}
	// Encoded outside of the lock, which all subscribers share.
	beat := cutoff.NewHeartbeat(v.age, v.now, s.f.c.MaxStaleness)
	if v.event == cutoff.EventReady {
		return cutoff.AppendEvent(dst, beat.Ready(v.id, s.subscriber.Pinned, s.subscriber.Apps...)), changed, err
	}
	e := beat.Event()
	e.ID = v.id // of what was left out, so that it can be resumed behind it
	return cutoff.AppendEvent(dst, e), changed, err
}

// statusEvent is a ready or heartbeat event, or none.
type statusEvent struct {
	event, id string
	age       time.Duration
	now       time.Time
}

func (s *Subscription) next(dst []byte) ([]byte, statusEvent, <-chan struct{}, error) {
	f := &s.f.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return dst, statusEvent{}, nil, ErrClosed
	}
	if s.history != f.history {
		dst = s.begin(f, dst)
	}
	began := len(dst)
	rest := f.after(s.position)
	for i := range rest {
		e := &rest[i]
		if len(dst)-began >= chunkSize || i == chunkEntries {
			return dst, statusEvent{}, closedChan, nil
		}
		s.position = e.id
		switch {
		case !s.subscriber.wants(e):
			s.skipped = true
		case s.snapshot:
			dst = append(dst, e.eventWithoutID...)
		default:
			dst = append(dst, e.event...)
			s.skipped = false
		}
	}
	s.position = max(s.position, f.last)
	var v statusEvent
	switch {
	case !s.ready:
		v = statusEvent{event: cutoff.EventReady, id: eventID(f.timeline, s.position)}
	case s.heartbeats != f.heartbeats:
		v = statusEvent{event: cutoff.EventHeartbeat}
		if s.skipped {
			v.id = eventID(f.timeline, s.position)
		}
	default:
		return dst, statusEvent{}, f.changed, nil
	}
	s.ready, s.snapshot, s.skipped, s.heartbeats = true, false, false, f.heartbeats
	v.now = s.f.Now()
	v.age = f.ageLocked(s.f.c.Clock())
	return dst, v, f.changed, nil
}

// begin finds where the subscriber stands in the feed's history. The lock is
// held.
func (s *Subscription) begin(f *feed, dst []byte) []byte {
	first := s.history == 0
	s.history, s.ready = f.history, false
	if at, ok := f.position(s.resumeID); first && ok {
		s.position, s.snapshot = at, false
		return dst
	}
	s.position, s.snapshot = beforeFirst, true
	if first && s.resumeID == "" {
		return dst
	}
	return cutoff.AppendEvent(dst, cutoff.Reset())
}

// Page returns at most limit cutoffs after the event id, for those who ask
// instead of listening, and the id to ask with next. An id that is empty or
// cannot be resumed begins with the first.
//
// A page that leaves entries out proves nothing: its age is above
// [Config.MaxStaleness], whatever the limit is.
func (f *Follower) Page(after string, limit int, who Subscriber) cutoff.Page {
	d := &f.feed
	d.mu.Lock()
	defer d.mu.Unlock()
	at, ok := d.position(after)
	if !ok {
		at = beforeFirst
	}
	next := max(at, d.last)
	age := d.ageLocked(f.c.Clock())
	page := cutoff.Page{Cutoffs: []cutoff.Cutoff{}, App: who.Pinned, Apps: who.Apps}
	limit = max(limit, 1)
	rest := d.after(at)
	for i := range rest {
		e := &rest[i]
		if !who.wants(e) {
			continue
		}
		if len(page.Cutoffs) == limit {
			next = rest[i-1].id
			age += f.c.MaxStaleness + time.Millisecond
			break
		}
		page.Cutoffs = append(page.Cutoffs, e.wire)
	}
	beat := cutoff.NewHeartbeat(age, f.Now(), f.c.MaxStaleness)
	page.Next = eventID(d.timeline, next)
	page.AgeMS, page.Now, page.MaxStalenessMS = beat.AgeMS, beat.Now, beat.MaxStalenessMS
	return page
}
