package session

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// MaxRestored is how many cutoffs one call of [RestorationStore.RestoreCutoffs] takes.
const MaxRestored = 100

// MaxRaise is how far a remembered ver or epoch may be ahead of its row. No tail that a
// store loses holds so many changes: a cutoff that is farther ahead is a defect.
// [RestorationStore.EndEverything] raises by as much, and so beyond all that anybody can
// remember. What it raised may be lost too, and is not too far ahead then.
const MaxRaise = 1 << 20

// RestorationStore is what a replica needs of a database that lost its tail: in a
// restore, or when a standby took over that was behind. Validators that followed the
// revocations remember cutoffs that the rows no longer reach, so they would refuse what
// is minted from the rows. See [Store] for what holds of every method.
type RestorationStore interface {
	// RestoreCutoffs makes the rows of sessions and apps say at least what is
	// remembered of them, in one transaction that keeps the order of locks:
	//
	//   - A session that is remembered as ended (Ver 0) ends for [auth.EndRevoked],
	//     with its cutoff, if it has not ended.
	//   - A session whose ver is below the remembered one gets the one after that,
	//     with its cutoff: a ver that two histories gave has two meanings.
	//   - An app whose epoch is below the remembered one gets the one after that, with
	//     its cutoff (reason [auth.EndAppRevoked]).
	//
	// [RestoreParams.Decide] is the rule. Each is audited as r.Event, of which the store fills in AppID, Identity and
	// Session, and a detail: {"ended": true}, or {"ver": [from, to]}, or
	// {"epoch": [from, to]}. Rows that are gone, or say as much already, stay as they
	// are; so two replicas that remember the same change a row once. A row that is more
	// than [MaxRaise] below what is remembered stays as it is, and is told.
	//
	// Errors: [auth.StorageUnavailable] when the database is another deployment's.
	RestoreCutoffs(ctx context.Context, r RestoreParams) (Restored, error)

	// Vouched reports whether the history of the database is the one that a replica
	// vouched for last, or none has vouched yet. A restart of the database is not
	// another history; a restore, a fail-over and a copy of an SQLite file are.
	Vouched(ctx context.Context) (bool, error)

	// Vouch records the present history as one that nothing is missing from, or whose
	// loss was made good.
	Vouch(ctx context.Context) error

	// EndEverything raises the epoch of every app by [MaxRaise] and retires every key,
	// with cutoffs and one audit event (detail {"apps": N, "keys": N}), and vouches for
	// the history, in one transaction. All sessions end; their users log in again. The
	// keys end because nobody knows which of them had leaked: validators may remember
	// that, and would refuse whatever it signs. The next replica makes others.
	// It returns how many apps there are.
	EndEverything(ctx context.Context, event auth.AuditEvent, now time.Time) (int, error)
}

// RestoreParams is what a replica remembers.
type RestoreParams struct {
	// Deployment is that of the database which it remembers it of.
	Deployment uuid.UUID
	// Remembered are at most [MaxRestored] cutoffs of sessions and apps, one of each.
	Remembered []auth.Cutoff
	// Event is the audit event of each row that is changed.
	Event auth.AuditEvent
	Now   time.Time
}

// Restored is what became of it.
type Restored struct {
	// Sessions and Apps are how many rows were changed.
	Sessions, Apps int
	// Implausible are the cutoffs that are too far ahead of their rows.
	Implausible []auth.Cutoff
}

// RestorableRow is a row that a store found and locked: a session's or, without
// Session, an app's.
type RestorableRow struct {
	auth.Subject
	// Number is the session's ver or the app's epoch.
	Number int64
	// Ended says that the session has ended.
	Ended bool
}

// Restoration is what a store has to write.
type Restoration struct {
	// Cutoffs say what the rows have to say: a session of Ver 0 ends, another has
	// this ver, and an app has this epoch.
	Cutoffs []auth.Cutoff
	// Events has the audit event of each cutoff.
	Events   []auth.AuditEvent
	Restored Restored
}

// Decide finds out which of the rows say less than is remembered of them.
func (r *RestoreParams) Decide(rows []RestorableRow) Restoration {
	var out Restoration
	for _, row := range rows {
		i := slices.IndexFunc(r.Remembered, func(c auth.Cutoff) bool { return concerns(c, row) })
		if i < 0 || row.Ended {
			continue
		}
		remembered := r.Remembered[i]
		to, plausible := raised(remembered, row.Number)
		switch {
		case !plausible:
			out.Restored.Implausible = append(out.Restored.Implausible, remembered)
			continue
		case to == row.Number:
			continue
		}
		event := r.Event
		event.AppID, event.Identity, event.Session = row.AppID, row.Identity, row.Session
		switch {
		case remembered.Kind == auth.CutoffApp:
			out.Restored.Apps++
			out.Cutoffs = append(out.Cutoffs, auth.AppRevoked(row.AppID, to, r.Now))
			event.Detail = map[string]any{"epoch": []int64{row.Number, to}}
		case to == 0:
			out.Restored.Sessions++
			out.Cutoffs = append(out.Cutoffs, auth.SessionEnded(row.Session, r.Now))
			event.Detail = map[string]any{"ended": true}
		default:
			out.Restored.Sessions++
			out.Cutoffs = append(out.Cutoffs, auth.SessionChanged(row.Session, to, r.Now))
			event.Detail = map[string]any{"ver": []int64{row.Number, to}}
		}
		out.Events = append(out.Events, event)
	}
	return out
}

// concerns reports whether the cutoff is about the row.
func concerns(c auth.Cutoff, row RestorableRow) bool {
	switch c.Kind {
	case auth.CutoffSession:
		return row.Session != uuid.Nil && c.Session == row.Session
	case auth.CutoffApp:
		return row.Session == uuid.Nil && c.AppID == row.AppID
	default:
		return false
	}
}

// raised returns what the row's number has to be: 0 for a session that has to end,
// and the number itself when it stays.
func raised(c auth.Cutoff, number int64) (to int64, plausible bool) {
	remembered := c.Epoch
	if c.Kind == auth.CutoffSession {
		if remembered = c.Ver; remembered == 0 {
			return 0, true
		}
	}
	switch {
	case remembered <= number:
		return number, true
	case remembered-number > MaxRaise:
		return number, false
	default:
		// The one after that: the lost history may have given the remembered one to
		// something else.
		return remembered + 1, true
	}
}
