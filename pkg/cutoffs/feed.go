package cutoffs

import (
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
)

// entry is one live cutoff, encoded once for all subscribers.
type entry struct {
	id             int64
	expires        time.Time // zero: never
	app            string    // the app that it concerns; empty: all
	coveredBy      cutoff.Kind
	wire           cutoff.Cutoff
	event          []byte // with its id
	eventWithoutID []byte // without, for a snapshot
}

// feed holds the live cutoffs in order, as of syncedAt, and wakes subscribers. All
// subscribers share it: each has a position in it.
type feed struct {
	mu       sync.Mutex
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
	// changed is closed, and replaced, whenever there is more to send.
	changed chan struct{}
	closed  bool
}

// beforeFirst is below the id of every entry.
const beforeFirst = -1 << 63

// wake wakes all subscribers. The lock is held.
func (f *feed) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// end returns the timeline and the id after which the next query begins.
func (f *feed) end() (timeline string, last int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.timeline, f.last
}

// age returns the age of the entries at now.
func (f *feed) age(now time.Time) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ageLocked(now)
}

func (f *feed) ageLocked(now time.Time) time.Duration { return max(now.Sub(f.syncedAt), 0) }

// entryOf encodes a cutoff.
func entryOf(timeline string, c auth.Cutoff) entry {
	e := entry{id: c.ID, expires: c.ExpiresAt, app: c.AppID, coveredBy: cutoff.Kind(c.CoveredBy), wire: Wire(c)}
	// One allocation for both, which have the same lifetime.
	both := cutoff.AppendEvent(make([]byte, 0, 512), e.wire.Event(eventID(timeline, c.ID)))
	n := len(both)
	both = slices.Clip(cutoff.AppendEvent(both, e.wire.Event("")))
	both = slices.Clone(both)
	e.event, e.eventWithoutID = both[:n:n], both[n:]
	return e
}

// append adds the cutoffs of a query, up to the id last. synced is the time of the
// query, or zero when there are more pages.
func (f *feed) append(list []auth.Cutoff, last int64, synced time.Time) {
	timeline, _ := f.end() // changed by the caller only
	fresh := make([]entry, len(list))
	for i, c := range list {
		fresh[i] = entryOf(timeline, c)
	}
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

// replace begins a timeline with all its cutoffs, up to the id last. It keeps the old
// entries that are not among them.
func (f *feed) replace(timeline string, list []auth.Cutoff, last int64, synced time.Time) {
	known := make(map[cutoff.Cutoff]bool, len(list))
	fresh := make([]entry, len(list))
	for i, c := range list {
		fresh[i] = entryOf(timeline, c)
		known[fresh[i].wire] = true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	kept := slices.DeleteFunc(slices.Clone(f.entries), func(e entry) bool { return known[e.wire] })
	for i := range kept {
		kept[i].id, kept[i].event = int64(i-len(kept)), kept[i].eventWithoutID
	}
	f.entries = slices.Concat(kept, fresh)
	f.timeline, f.last, f.prunedID, f.syncedAt = timeline, last, 0, synced
	f.timelines++
	f.wake()
}

func (f *feed) prune(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.entries = slices.DeleteFunc(f.entries, func(e entry) bool {
		if e.expires.IsZero() || e.expires.After(now) {
			return false
		}
		f.prunedID = max(f.prunedID, e.id)
		return true
	})
}

// addHeartbeat makes a heartbeat due.
func (f *feed) addHeartbeat() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heartbeats++
	f.wake()
}

func (f *feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.closed = true
		f.wake()
	}
}

// eventID returns the event id of a cutoff. It is opaque to validators.
func eventID(timeline string, id int64) string {
	return timeline + "." + strconv.FormatInt(id, 10)
}

// position returns the cutoff id in an event id, or false if it is malformed, pruned,
// in the future, or of another timeline. The lock is held.
func (f *feed) position(id string) (int64, bool) {
	timeline, n, ok := strings.Cut(id, ".")
	if !ok || timeline != f.timeline {
		return 0, false
	}
	i, err := strconv.ParseInt(n, 10, 64)
	if err != nil || i > f.last || i >= 0 && i < f.prunedID || strconv.FormatInt(i, 10) != n {
		return 0, false
	}
	return i, true
}

// after returns the entries with greater ids. The lock is held.
func (f *feed) after(id int64) []entry {
	return f.entries[sort.Search(len(f.entries), func(i int) bool { return f.entries[i].id > id }):]
}
