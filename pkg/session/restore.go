package session

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// MaxRestored is how many cutoffs one call of [RestorationStore.RestoreCutoffs] takes.
const MaxRestored = 100

// MaxRaise is how far a remembered ver or epoch may be ahead of its row. No database
// loses so many changes: a cutoff that is farther ahead is a defect.
// [RestorationStore.EndEverything] raises by as much, and so beyond all that a validator
// can remember. If the database loses that too, it is not too far ahead.
const MaxRaise = 1 << 20

// RestorationStore is what a replica needs of a database that lost its latest commits:
// in a restore, or when a standby took over that was behind. Validators remember cutoffs
// from those commits, so they would refuse tokens minted from the rows as they are now.
//
// A replica records the history of a database in it, to say that no commit is missing,
// or that the loss was made good. A history has another name after a restore or a
// fail-over, and that name has not been recorded.
//
// See [Store] for what holds of every method.
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
	// [RestoreParams.Decide] is the rule. Each change is audited as r.Event with the
	// AppID, Identity and Session of its row, and a detail: {"ended": true}, or
	// {"ver": [from, to]}, or {"epoch": [from, to]}. A row that says as much already
	// stays as it is, so two replicas that remember the same change it once. So does a
	// row that is more than [MaxRaise] behind; its cutoff is in Restored.Implausible.
	//
	// Errors: [auth.StorageUnavailable] when the database is another deployment's.
	RestoreCutoffs(ctx context.Context, r RestoreParams) (Restored, error)

	// RecordedHistory returns the present history of the database, and whether it is
	// the one that was recorded last, or none was recorded yet. A restart of the
	// database is not another history; a restore, a fail-over and an older copy of an
	// SQLite file are.
	RecordedHistory(ctx context.Context) (History, bool, error)

	// RecordHistory records the history; nil means the present one.
	//
	// Errors: [auth.StorageUnavailable] when the database has another by now.
	RecordHistory(ctx context.Context, of History) error

	// EndEverything raises the epoch of every app by [MaxRaise] and retires every key,
	// with cutoffs and one audit event (detail {"apps": N, "keys": N}), and records
	// the history, in one transaction. All sessions end; their users log in again. The
	// keys end because one of them may have been retired as leaked in the lost commits:
	// validators that remember it refuse what it signs. A replica makes new keys.
	// It returns the number of apps.
	EndEverything(ctx context.Context, event auth.AuditEvent, now time.Time) (int, error)
}

// History names the history of a database. What it holds is its store's.
type History []string

// RestoreParams is what a replica remembers.
type RestoreParams struct {
	// Deployment is the id of the deployment whose revocations these are.
	Deployment uuid.UUID
	// Remembered are at most [MaxRestored] cutoffs of sessions and apps, one of each.
	Remembered []auth.Cutoff
	// Event is the audit event of each row that is changed.
	Event auth.AuditEvent
	Now   time.Time
}

// Restored is the result of [RestorationStore.RestoreCutoffs].
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
	// Cutoffs are the changes: a session with Ver 0 ends, another one gets this ver,
	// and an app gets this epoch.
	Cutoffs []auth.Cutoff
	// Events are the audit events of Cutoffs, one of each, in the same order.
	Events   []auth.AuditEvent
	Restored Restored
}

// CheckDeployment returns [auth.StorageUnavailable] unless the database has the
// deployment id that is remembered.
func (r *RestoreParams) CheckDeployment(id uuid.UUID) error {
	if id == r.Deployment {
		return nil
	}
	return &auth.Error{
		Code: auth.StorageUnavailable,
		Err:  fmt.Errorf("session: the database must belong to deployment %s, whose revocations are remembered, got %s", r.Deployment, id),
	}
}

// Decide returns the changes of those rows that say less than is remembered of them.
func (r *RestoreParams) Decide(rows []RestorableRow) Restoration {
	var out Restoration
	for _, row := range rows {
		i := slices.IndexFunc(r.Remembered, func(c auth.Cutoff) bool { return matchesRow(c, row) })
		if i < 0 || row.Ended {
			continue
		}
		remembered := r.Remembered[i]
		to, plausible := raisedNumber(remembered, row.Number)
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

// matchesRow reports whether the cutoff is about the row.
func matchesRow(c auth.Cutoff, row RestorableRow) bool {
	switch c.Kind {
	case auth.CutoffSession:
		return row.Session != uuid.Nil && c.Session == row.Session
	case auth.CutoffApp:
		return row.Session == uuid.Nil && c.AppID == row.AppID
	default:
		return false
	}
}

// raisedNumber returns the number that the row gets: 0 for a session that ends, and the
// present one for a row that stays as it is.
func raisedNumber(c auth.Cutoff, number int64) (to int64, plausible bool) {
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
