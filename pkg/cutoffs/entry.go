package cutoffs

import (
	"strconv"
	"time"
	"unique"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
)

// entry is one live cutoff, in 64 bytes: there may be hundreds of thousands. It is encoded
// when it is sent.
type entry struct {
	id int64
	content
	expires int64 // microseconds since 1970; 0: never
	// coveredBy is [auth.Cutoff.CoveredBy].
	coveredBy unique.Handle[string]
}

// content is the effect of a cutoff. Two cutoffs with the same content are equal to
// subscribers.
type content struct {
	session uuid.UUID
	kind    unique.Handle[string]
	bound   int64 // ver or epoch
	// name is the id of a key, and otherwise the app that the cutoff concerns; empty: all.
	name unique.Handle[string]
}

var (
	kindSession = unique.Make(string(cutoff.KindSession))
	kindApp     = unique.Make(string(cutoff.KindApp))
	kindKey     = unique.Make(string(cutoff.KindKey))
	noName      = unique.Make("")
)

func entryOf(c *auth.Cutoff) entry {
	e := entry{id: c.ID, coveredBy: unique.Make(string(c.CoveredBy))}
	if !c.ExpiresAt.IsZero() {
		e.expires = c.ExpiresAt.UnixMicro()
	}
	e.kind, e.name = unique.Make(string(c.Kind)), unique.Make(c.AppID)
	switch e.kind {
	case kindSession:
		e.session, e.bound = c.Session, c.Ver
	case kindApp:
		e.bound = c.Epoch
	case kindKey:
		e.name = unique.Make(c.KID)
	}
	return e
}

// expired reports whether the cutoff may be deleted at now.
func (e *entry) expired(now time.Time) bool { return e.expires != 0 && e.expires <= now.UnixMicro() }

// app returns the app that the cutoff concerns, or "".
func (e *entry) app() string {
	if e.kind == kindKey {
		return ""
	}
	return e.name.Value()
}

// wire returns the cutoff in the form that validators get.
func (e *entry) wire() cutoff.Cutoff {
	w := cutoff.Cutoff{Kind: cutoff.Kind(e.kind.Value())}
	switch e.kind {
	case kindSession:
		w.Session, w.Ver = e.session.String(), e.bound
	case kindApp:
		w.App, w.Epoch = e.name.Value(), e.bound
	case kindKey:
		w.KID = e.name.Value()
	}
	return w
}

// appendEvent appends the event of the cutoff. A snapshot has no event ids, and the entries
// of an earlier timeline, whose ids are negative, have none either.
func (e *entry) appendEvent(dst []byte, timeline string, snapshot bool) []byte {
	var buf [96]byte
	id := buf[:0]
	if !snapshot && e.id > 0 {
		id = appendEventID(id, timeline, e.id)
	}
	if e.kind == kindSession {
		return cutoff.AppendSession(dst, e.session, e.bound, id)
	}
	return cutoff.AppendEvent(dst, e.wire().Event(string(id)))
}

// eventID returns the event id of a cutoff. It is opaque to validators.
func eventID(timeline string, id int64) string { return string(appendEventID(nil, timeline, id)) }

func appendEventID(dst []byte, timeline string, id int64) []byte {
	return strconv.AppendInt(append(append(dst, timeline...), '.'), id, 10)
}
