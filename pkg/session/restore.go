package session

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// MaxRestored is how many cutoffs one call of [RestorationStore.RestoreCutoffs] takes.
const MaxRestored = 100

// MaxRaise is how far a ver or an epoch may be raised to what is remembered. No tail
// that a store loses holds so many changes: a cutoff that is farther ahead is a defect.
// [RestorationStore.RaiseEpochs] raises by as much, and so beyond all that anybody can
// remember.
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
	// Each is audited as r.Event, of which the store fills in AppID, Identity and
	// Session, and a detail: {"ended": true}, or {"ver": [from, to]}, or
	// {"epoch": [from, to]}. Rows that are gone, or say as much already, stay as they
	// are; so two replicas that remember the same change a row once. A row that would
	// have to be raised by more than [MaxRaise] stays as it is, and is told.
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

	// RaiseEpochs raises the epoch of every app by [MaxRaise], with cutoffs and one
	// audit event (detail {"apps": N}), and vouches for the history, in one
	// transaction. All sessions end; their users log in again. It returns how many
	// apps there are.
	RaiseEpochs(ctx context.Context, event auth.AuditEvent, now time.Time) (int, error)
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
