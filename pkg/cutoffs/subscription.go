package cutoffs

import (
	"errors"
	"slices"
	"time"

	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
)

// ErrClosed means that the replica is shutting down.
var ErrClosed = errors.New("cutoffs: the feed is closed")

// Subscriber describes a client that follows the feed, or asks for pages of it.
type Subscriber struct {
	// Pinned is the app to which the service key is pinned, or "".
	Pinned string
	// Apps restricts the subscriber to the cutoffs of these apps, of their sessions, and
	// of keys. Empty means all cutoffs.
	Apps []string
	// Kinds are the kinds beyond the base kinds that the subscriber knows.
	Kinds []cutoff.Kind
}

// wants reports whether the subscriber gets the entry. All subscribers get an entry whose
// app is unknown, because a revocation must not be lost.
//
// A cutoff of a further kind goes to subscribers that know the kind, in place of the
// earlier base cutoffs with the same effect. Because it comes after them, a subscriber
// that stopped between them gets it when it resumes.
func (s *Subscriber) wants(e *entry) bool {
	switch {
	case e.coveredBy != noName && slices.Contains(s.Kinds, cutoff.Kind(e.coveredBy.Value())):
		return false
	case !cutoff.Kind(e.kind.Value()).Base() && !slices.Contains(s.Kinds, cutoff.Kind(e.kind.Value())):
		return false
	}
	return len(s.Apps) == 0 || e.app() == "" || slices.Contains(s.Apps, e.app())
}

// Subscription is one subscriber's position in the feed. It holds no resources, so it
// need not be closed. Only one goroutine may use it.
type Subscription struct {
	f          *Follower
	resumeID   string
	subscriber Subscriber
	// timelines is the feed's timelines at the last call; zero before the first call.
	timelines int
	// position is the id up to which everything was sent.
	position int64
	// snapshot says that events have no id, which is so until the first ready.
	snapshot bool
	// skipped says that entries were left out since the last id that was sent.
	skipped    bool
	ready      bool
	heartbeats int
	// lastRead belongs to [feed.read].
	lastRead int
}

const (
	// chunkSize is the approximate maximum that [Subscription.Next] appends, in bytes.
	chunkSize = 64 << 10
	// chunkEntries is the maximum number of entries that it examines in one call.
	chunkEntries = 4096
)

// closedChan is closed; Next returns it if there is more to send.
var closedChan = func() <-chan struct{} { c := make(chan struct{}); close(c); return c }()

// Subscribe returns a subscription that continues after the last event id that the
// subscriber saw. It begins with a snapshot if that id is empty or cannot be resumed.
func (f *Follower) Subscribe(lastEventID string, who Subscriber) *Subscription {
	return &Subscription{f: f, resumeID: lastEventID, subscriber: who}
}

// Next appends to dst the server-sent events that are due for the subscriber, about
// 64 KiB at most and possibly nothing. It returns a channel that is closed when there is
// more, or up to 50 ms later. It returns [ErrClosed] when the replica is shutting down.
//
// Ready and heartbeat events state the age of everything sent before them, so they are
// sent only when no entries are left.
func (s *Subscription) Next(dst []byte) ([]byte, <-chan struct{}, error) {
	f := s.f.feed.read(&s.lastRead)
	if f.closed {
		return dst, nil, ErrClosed
	}
	if s.timelines != f.timelines {
		dst = s.begin(&f, dst)
	}
	began := len(dst)
	rest := f.after(s.position)
	for i := range rest {
		e := &rest[i]
		if len(dst)-began >= chunkSize || i == chunkEntries {
			return dst, closedChan, nil
		}
		s.position = e.id
		if s.subscriber.wants(e) {
			dst = e.appendEvent(dst, f.timeline, s.snapshot)
			s.skipped = s.skipped && s.snapshot
		} else {
			s.skipped = true
		}
	}
	s.position = max(s.position, f.last)
	if s.ready && s.heartbeats == f.heartbeats {
		return dst, f.changed, nil
	}
	now := s.f.Now() // before the age, which then is not too small
	beat := cutoff.NewHeartbeat(f.age(s.f.c.Clock()), now, s.f.c.MaxStaleness)
	var e cutoff.Event
	if s.ready {
		e = beat.Event()
		if s.skipped {
			e.ID = eventID(f.timeline, s.position) // of the last skipped entry, so that a client can resume after it
		}
	} else {
		e = beat.Ready(eventID(f.timeline, s.position), s.subscriber.Pinned, s.subscriber.Apps...)
	}
	s.ready, s.snapshot, s.skipped, s.heartbeats = true, false, false, f.heartbeats
	return cutoff.AppendEvent(dst, e), f.changed, nil
}

// begin finds the subscriber's position in the feed's timeline.
func (s *Subscription) begin(f *state, dst []byte) []byte {
	first := s.timelines == 0
	s.timelines, s.ready = f.timelines, false
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

// Page returns at most limit cutoffs after the event id, and the id of the next request,
// for clients that poll. If the id is empty or cannot be resumed, the page begins with
// the first cutoff.
//
// A page that is not complete proves no freshness: whatever the limit, its age is above
// [Config.MaxStaleness].
func (f *Follower) Page(after string, limit int, who Subscriber) cutoff.Page {
	d := f.feed.current()
	at, ok := d.position(after)
	if !ok {
		at = beforeFirst
	}
	next := max(at, d.last)
	now := f.Now() // before the age, which then is not too small
	age := d.age(f.c.Clock())
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
		page.Cutoffs = append(page.Cutoffs, e.wire())
	}
	beat := cutoff.NewHeartbeat(age, now, f.c.MaxStaleness)
	page.Next = eventID(d.timeline, next)
	page.AgeMS, page.Now, page.MaxStalenessMS = beat.AgeMS, beat.Now, beat.MaxStalenessMS
	return page
}
