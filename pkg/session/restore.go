package session

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// MaxRestored is the maximum number of cutoffs in one call of
// [RestorationStore.RestoreCutoffs].
const MaxRestored = 100

// MaxRaise is the maximum by which a remembered ver or epoch may exceed its row. No
// database loses so many changes: a larger difference is a defect.
// [RestorationStore.EndEverything] raises epochs by this number, which is above everything
// that a validator can remember. If the database loses this change too, the difference is
// still within the limit.
const MaxRaise = 1 << 20

// RestorationStore repairs a database that lost its latest commits in a restore, or in a
// fail-over to a standby that was behind. Validators remember cutoffs from those commits,
// so they would refuse tokens minted from the present rows.
//
// A replica records the history of a database in the database itself, to state that no
// commit is missing, or that the loss was repaired. After a restore or a fail-over the
// history has another name, which has not been recorded.
//
// [Store] describes the rules for all methods.
type RestorationStore interface {
	// RestoreCutoffs raises the rows of sessions and apps to what is remembered of them,
	// in one transaction that keeps the order of locks:
	//
	//   - A session that is remembered as ended (Ver 0) ends for [auth.EndRevoked],
	//     with its cutoff, if it has not ended.
	//   - A session whose ver is below the remembered one gets the remembered ver plus
	//     one, with its cutoff: a ver that two histories assigned would have two meanings.
	//   - An app whose epoch is below the remembered one gets the remembered epoch plus
	//     one, with its cutoff (reason [auth.EndAppRevoked]).
	//
	// [RestoreParams.Decide] is the rule. Each change is audited as r.Event with the
	// AppID, Identity and Session of its row, and a detail: {"ended": true}, or
	// {"ver": [from, to]}, or {"epoch": [from, to]}. A row that is not behind does not
	// change, so two replicas that remember the same cutoff change the row once. A row
	// that is more than [MaxRaise] behind does not change either; its cutoff is in
	// Restored.Implausible.
	//
	// Errors: [auth.StorageUnavailable] when the database is another deployment's.
	RestoreCutoffs(ctx context.Context, r RestoreParams) (Restored, error)

	// RecordedHistory returns the present history of the database, and true if this
	// history was recorded last or no history was recorded yet. A restart of the
	// database does not change this history; a restore, a fail-over and an older copy of
	// an SQLite file do.
	RecordedHistory(ctx context.Context) (History, bool, error)

	// RecordHistory records the history; nil means the present one.
	//
	// Errors: [auth.StorageUnavailable] when the history has changed meanwhile.
	RecordHistory(ctx context.Context, of History) error

	// EndEverything raises the epoch of every app by [MaxRaise] and retires every key,
	// with cutoffs and one audit event (detail {"apps": N, "keys": N}), and records
	// the history, in one transaction. All sessions end; their users log in again. The
	// keys are retired because the lost commits may have retired one of them as leaked:
	// validators that remember this refuse its signatures. A replica makes new keys.
	// It returns the number of apps.
	EndEverything(ctx context.Context, event auth.AuditEvent, now time.Time) (int, error)
}

// History names the history of a database for recording. A restart of the server does
// not change it, unlike the timeline of cutoffs.Batch. Only the store interprets it.
type History []string

// RestoreParams are the cutoffs that a replica remembers.
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
	// Sessions and Apps are the numbers of changed rows.
	Sessions, Apps int
	// Implausible are the cutoffs that are too far ahead of their rows.
	Implausible []auth.Cutoff
}

// RestorableRow is a row that a store found and locked: a session or, if Session is
// uuid.Nil, an app.
type RestorableRow struct {
	auth.Subject
	// Number is the session's ver or the app's epoch.
	Number int64
	// Ended says that the session has ended.
	Ended bool
}

// Restoration is the change that a store has to write.
type Restoration struct {
	// Cutoffs are the changes: a session with Ver 0 ends, any other session gets this
	// ver, and an app gets this epoch.
	Cutoffs []auth.Cutoff
	// Events are the audit events of Cutoffs, one for each, in the same order.
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

// Decide returns the changes of the rows that are behind the remembered cutoffs.
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
			out.Cutoffs = append(out.Cutoffs, auth.SessionEnded(row.AppID, row.Session, r.Now))
			event.Detail = map[string]any{"ended": true}
		default:
			out.Restored.Sessions++
			out.Cutoffs = append(out.Cutoffs, auth.SessionChanged(row.AppID, row.Session, to, r.Now))
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

// raisedNumber returns the new number of the row: 0 for a session that ends, and the
// present number for a row that does not change.
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
		// Plus one: the remembered number may have had another meaning in the lost
		// history.
		return remembered + 1, true
	}
}
