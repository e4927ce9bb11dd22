package cutoff

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// The names of the feed's events.
const (
	EventCutoff    = "cutoff"
	EventReady     = "ready"
	EventHeartbeat = "heartbeat"
	EventReset     = "reset"
)

// HeartbeatInterval is the longest time between two heartbeats of the service.
const HeartbeatInterval = 5 * time.Second

// Event is one event of the feed.
type Event struct {
	// Name is one of the constants above. Skip any other name.
	Name string
	// ID is where to resume after this event. It is empty if that is not possible.
	ID string
	// Data is the event's JSON object.
	Data []byte
}

// Heartbeat reports how fresh a replica's data is.
type Heartbeat struct {
	// AgeMS is the time in milliseconds since the start of the replica's last
	// successful catch-up with the database.
	AgeMS int64 `json:"age_ms"`
	// Now is the replica's clock when the heartbeat was made.
	Now time.Time `json:"now"`
	// MaxStalenessMS is the maximum age of revocation data in milliseconds; with older
	// data, validators refuse tokens. Validators may lower it for themselves, but not
	// raise it.
	MaxStalenessMS int64 `json:"max_staleness_ms"`
}

// Ready is the data of the ready event.
type Ready struct {
	Heartbeat
	// App is the appid to which the subscriber's service key is pinned, empty without a
	// pin. A validator that names neither an audience nor apps accepts only tokens of
	// this app.
	App string `json:"app,omitempty"`
	// Apps are the apps to which the service key is restricted; empty means no
	// restriction. A validator gets no revocations of other apps, so it must refuse their
	// tokens.
	Apps []string `json:"apps,omitempty"`
}

// Page is the feed's answer to a poll.
type Page struct {
	// Cutoffs are the cutoffs after the requested id, or all live ones.
	Cutoffs []Cutoff `json:"cutoffs"`
	// Next is the id for the next request.
	Next string `json:"next"`
	// AgeMS, Now and MaxStalenessMS are those of a [Heartbeat].
	AgeMS          int64     `json:"age_ms"`
	Now            time.Time `json:"now"`
	MaxStalenessMS int64     `json:"max_staleness_ms"`
	// App and Apps are those of [Ready].
	App  string   `json:"app,omitempty"`
	Apps []string `json:"apps,omitempty"`
}

// NewHeartbeat returns the heartbeat of a replica in wire units: milliseconds, the age
// rounded up, and the clock in UTC.
func NewHeartbeat(age time.Duration, now time.Time, maxStaleness time.Duration) Heartbeat {
	return Heartbeat{
		AgeMS:          int64((age + time.Millisecond - 1) / time.Millisecond),
		Now:            now.UTC().Truncate(time.Millisecond),
		MaxStalenessMS: int64(maxStaleness / time.Millisecond),
	}
}

// Event returns the event that carries the cutoff. The id is empty in a
// snapshot.
func (c Cutoff) Event(id string) Event {
	return Event{Name: EventCutoff, ID: id, Data: object(c)}
}

// Event returns the heartbeat event.
func (h Heartbeat) Event() Event {
	return Event{Name: EventHeartbeat, Data: object(h)}
}

// Ready returns the ready event: everything up to the id has been sent. The app and
// the apps are those of [Ready].
func (h Heartbeat) Ready(id, app string, apps ...string) Event {
	return Event{Name: EventReady, ID: id, Data: object(Ready{Heartbeat: h, App: app, Apps: apps})}
}

// Reset returns the reset event: a snapshot follows.
func Reset() Event {
	return Event{Name: EventReset, Data: []byte("{}")}
}

// object returns the JSON of one of this package's types.
func object(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		// The types hold strings, integers and times. Only a time beyond the year 9999
		// fails.
		panic("cutoff: " + err.Error())
	}
	return b
}

// ParseHeartbeat reads the data of a heartbeat event.
//
// Errors: one that wraps [ErrMalformed].
func ParseHeartbeat(data []byte) (Heartbeat, error) {
	r, err := ParseReady(data)
	return r.Heartbeat, err
}

// ParseReady reads the data of a ready event.
//
// Errors: one that wraps [ErrMalformed].
func ParseReady(data []byte) (Ready, error) {
	var r Ready
	if err := json.Unmarshal(data, &r); err != nil || r.Now.IsZero() || r.AgeMS < 0 || r.MaxStalenessMS < 0 ||
		r.App != "" && !isName(r.App) || !areNames(r.Apps) {
		return Ready{}, fmt.Errorf("%w: invalid JSON of a heartbeat", ErrMalformed)
	}
	return r, nil
}

// AppendEvent appends the event in wire format. It panics if the name or the id has a
// line break or a NUL, or the data a carriage return, which the format cannot carry.
// These values never come from outside, and JSON as encoded here has no carriage return.
func AppendEvent(dst []byte, e Event) []byte {
	if strings.ContainsAny(e.Name, "\r\n\x00") || strings.ContainsAny(e.ID, "\r\n\x00") || bytes.IndexByte(e.Data, '\r') >= 0 {
		panic("cutoff: an event has a line break or NUL in its id or name, or a carriage return in its data")
	}
	dst = append(dst, "event: "...)
	dst = append(dst, e.Name...)
	dst = append(dst, '\n')
	if e.ID != "" {
		dst = append(dst, "id: "...)
		dst = append(dst, e.ID...)
		dst = append(dst, '\n')
	}
	for rest, more := e.Data, true; more; {
		var line []byte
		line, rest, more = bytes.Cut(rest, []byte("\n"))
		dst = append(dst, "data: "...)
		dst = append(dst, line...)
		dst = append(dst, '\n')
	}
	return append(dst, '\n')
}
