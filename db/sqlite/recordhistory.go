package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/session"
)

// Marks that replace the history of a file. The history is null before the first process
// serves from the file. Then it is a random text that is also in the note.
const (
	// historyLost marks a file that a process recognised as an older copy.
	historyLost = "lost"
	// historyRestored marks a file whose revocations were restored. The next process
	// that serves from it may record its history.
	historyRestored = "restored"
)

var (
	historySQL = statement(`
select coalesce(history, ''), coalesce((select seq from sqlite_sequence where name = 'cutoffs'), 0) from deployment`)
	setHistorySQL = statement(`update deployment set history = ?`)
)

var errUnclaimed = errors.New("sqlite: the store has no claim on the file, which reading or recording its history needs")

// RecordedHistory implements [session.RestorationStore] for a store that has the claim.
func (s *Store) RecordedHistory(ctx context.Context) (session.History, bool, error) {
	if s.noted == nil {
		return nil, false, errUnclaimed
	}
	history, last, err := s.history(ctx, "RecordedHistory")
	if err != nil {
		return nil, false, err
	}
	switch noted := s.noted.get(); {
	case history == historyRestored || noted.matches(history, last):
		return nil, true, nil
	case history != "" && history != noted.history:
		return nil, false, nil
	}
	// It stays an older copy, however many cutoffs are written to it later.
	return nil, false, s.setHistory(ctx, "RecordedHistory", historyLost)
}

// RecordHistory implements [session.RestorationStore] for a store that has the claim.
// It writes the note first. If the process ends in between, no harm is done: a file
// without a history, or one marked as restored, matches any note. An open file does not
// become another file, so its history is the one that RecordedHistory returned.
func (s *Store) RecordHistory(ctx context.Context, _ session.History) error {
	if s.noted == nil {
		return errUnclaimed
	}
	text := rand.Text()
	err := s.noted.replace(func(n *note) error {
		history, last, err := s.history(ctx, "RecordHistory")
		if err != nil {
			return err
		}
		if history != "" && history == n.history {
			text = history
		}
		*n = note{text, last}
		return nil
	})
	if err != nil {
		return err
	}
	return s.setHistory(ctx, "RecordHistory", text)
}

// history returns the history in the file and the greatest cutoff id that was ever
// committed to it.
func (s *Store) history(ctx context.Context, op string) (history string, last int64, err error) {
	err = s.r.QueryRowContext(ctx, historySQL).Scan(&history, &last)
	return history, last, translate(ctx, op, err)
}

func (s *Store) setHistory(ctx context.Context, op, history string) error {
	return s.inTx(ctx, op, func(tx *writeTx) error {
		_, err := tx.ExecContext(ctx, setHistorySQL, history)
		return err
	})
}

// EndEverything implements [session.RestorationStore]. Another process may have the
// claim and be waiting, so recording is left to that process or to the next one. A file
// whose history is recorded is not marked: the other process would not remove the mark,
// and backups with the mark would match any note.
func (s *Store) EndEverything(ctx context.Context, event auth.AuditEvent, now time.Time) (apps int, err error) {
	recorded, err := s.matchesNote(ctx)
	if err != nil {
		return 0, err
	}
	err = s.inTx(ctx, "EndEverything", func(tx *writeTx) error {
		if apps, err = raiseAllEpochs(ctx, tx, session.MaxRaise, auth.EndAppRevoked, now); err != nil {
			return err
		}
		keys, compromised, err := retireKeys(ctx, tx, now)
		if err != nil {
			return err
		}
		event.Detail = map[string]any{"apps": apps, "keys": keys}
		for _, c := range compromised {
			if _, err := writeCutoff(ctx, tx, c, now); err != nil {
				return err
			}
		}
		if err := writeAudit(ctx, tx, event); err != nil {
			return err
		}
		if !recorded {
			_, err = tx.ExecContext(ctx, setHistorySQL, historyRestored)
		}
		return err
	})
	return apps, err
}

// matchesNote reports whether the note beside the file describes its current state. It
// needs no claim.
func (s *Store) matchesNote(ctx context.Context) (bool, error) {
	path, err := s.realPath()
	if err != nil {
		return false, err
	}
	text, err := os.ReadFile(path + notedSuffix) //nolint:gosec // the operator names the file
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("sqlite: note: %w", err)
	}
	history, last, err := s.history(ctx, "EndEverything")
	return parseNote(text).matches(history, last), err
}

var retireKeysSQL = statement(`update signing_keys set retired_at = ?, sealed = x'' where retired_at is null returning kid, use`)

// retireKeys retires all keys. It returns their number and the cutoffs of the signing
// keys.
func retireKeys(ctx context.Context, tx *writeTx, now time.Time) (n int, compromised []auth.Cutoff, err error) {
	rows, err := tx.QueryContext(ctx, retireKeysSQL, micros(now))
	if err != nil {
		return 0, nil, err
	}
	uses, err := collect(rows, func(rows *sql.Rows) (use keyring.Use, err error) {
		var kid string
		if err = rows.Scan(&kid, &use); use == keyring.UseAccess {
			compromised = append(compromised, auth.KeyCompromised(kid))
		}
		return use, err
	})
	return len(uses), compromised, err
}
