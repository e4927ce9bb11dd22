package cutoffs

import (
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

// wakeInterval is the least time between two wake-ups of the subscribers. The first event
// after a pause wakes them at once. The events of a burst go out together, because waking
// thousands of connections costs far more than a few events more in each write.
//
// A wake-up takes about wakeCost of one processor, so with more than 500 subscribers the
// time grows, up to maxWakeInterval. Otherwise a burst would keep all processors busy, and
// its last events would come late.
const (
	wakeInterval    = 10 * time.Millisecond
	maxWakeInterval = 50 * time.Millisecond
	wakeCost        = 20 * time.Microsecond
)

// feed holds the live cutoffs in order, and wakes subscribers. All subscribers share it:
// each has a position in it.
type feed struct {
	mu sync.Mutex
	state
	// resting says that the subscribers were woken just before, and due that there is more
	// to send since.
	resting, due bool
	// counted counts the subscribers that have read since the last heartbeat, and
	// subscribers is what it was then.
	counted, subscribers int
	rest                 *time.Timer
}

// state is the content of a feed at a moment. The entries never change, so a copy stays
// valid without the lock.
type state struct {
	timeline string
	// timelines counts them: a position of another timeline is void.
	timelines int
	// entries are ordered by id. Entries that only an earlier timeline had come first:
	// they have negative ids here, which no event has.
	entries []entry
	// last is the greatest id of this timeline that was seen, prunedID the greatest
	// that was removed.
	last, prunedID int64
	// syncedAt is the time such that everything committed before it is in entries.
	syncedAt time.Time
	// heartbeats counts the heartbeats that were due.
	heartbeats int
	// changed is closed, and replaced, when there is more to send.
	changed chan struct{}
	closed  bool
}

// beforeFirst is below the id of every entry.
const beforeFirst = -1 << 63

// current returns the state.
func (f *feed) current() state {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

// read returns the state to a subscriber, and counts it once after each heartbeat. lastRead
// is the subscriber's, at first zero.
func (f *feed) read(lastRead *int) state {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.heartbeats + 1; *lastRead != now {
		*lastRead = now
		f.counted++
	}
	return f.state
}

// wake wakes all subscribers, now or soon. The lock is held.
func (f *feed) wake() {
	if f.resting {
		f.due = true
		return
	}
	pause := min(max(time.Duration(max(f.counted, f.subscribers))*wakeCost, wakeInterval), maxWakeInterval)
	f.wakeNow()
	f.resting = true
	if f.rest == nil {
		f.rest = time.AfterFunc(pause, f.rested)
	} else {
		f.rest.Reset(pause)
	}
}

// rested wakes all subscribers if there is more to send since the last time.
func (f *feed) rested() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resting = false
	if f.due {
		f.due = false
		f.wake()
	}
}

func (f *feed) wakeNow() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// age returns the age of the entries at now.
func (s *state) age(now time.Time) time.Duration { return max(now.Sub(s.syncedAt), 0) }

// append adds the live cutoffs of a query, up to the id last. synced is the time of the
// query, or zero when there are more pages.
func (f *feed) append(fresh []entry, last int64, synced time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.entries = append(f.entries, fresh...)
	f.last = last
	if !synced.IsZero() {
		f.syncedAt = synced
	}
	if len(fresh) > 0 {
		f.wake()
	}
}

// replace begins a timeline with all its entries, up to the id last. It keeps the old
// entries that are not among them.
func (f *feed) replace(timeline string, fresh []entry, last int64, synced time.Time) {
	kept := f.without(fresh)
	for i := range kept {
		kept[i].id = int64(i - len(kept))
	}
	if len(kept) > 0 {
		fresh = append(kept, fresh...)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.entries = fresh
	f.timeline, f.last, f.prunedID, f.syncedAt = timeline, last, 0, synced
	if f.timelines++; f.timelines > 1 {
		f.wake()
	}
}

// without returns a copy of the entries that have no equal in the list.
func (f *feed) without(list []entry) []entry {
	old := f.current().entries // changed by the caller only, and by prune
	if len(old) == 0 {
		return nil
	}
	known := make(map[content]struct{}, len(list))
	for i := range list {
		known[list[i].content] = struct{}{}
	}
	return slices.DeleteFunc(slices.Clone(old), func(e entry) bool {
		_, equal := known[e.content]
		return equal
	})
}

// prune removes the expired entries.
func (f *feed) prune(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	expired := func(e entry) bool { return e.expired(now) }
	if !slices.ContainsFunc(f.entries, expired) {
		return
	}
	var live []entry
	for _, e := range f.entries {
		if expired(e) {
			f.prunedID = max(f.prunedID, e.id)
		} else {
			live = append(live, e)
		}
	}
	f.entries = live
}

// addHeartbeat makes a heartbeat due.
func (f *feed) addHeartbeat() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heartbeats++
	f.counted, f.subscribers = 0, f.counted
	f.wake()
}

func (f *feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.closed = true
		f.wakeNow()
	}
}

// position returns the cutoff id in an event id, or false if it is malformed, pruned,
// in the future, or of another timeline.
func (s *state) position(id string) (int64, bool) {
	timeline, n, ok := strings.Cut(id, ".")
	if !ok || timeline != s.timeline {
		return 0, false
	}
	i, err := strconv.ParseInt(n, 10, 64)
	if err != nil || i > s.last || i >= 0 && i < s.prunedID || strconv.FormatInt(i, 10) != n {
		return 0, false
	}
	return i, true
}

// after returns the entries with greater ids.
func (s *state) after(id int64) []entry {
	return s.entries[sort.Search(len(s.entries), func(i int) bool { return s.entries[i].id > id }):]
}
