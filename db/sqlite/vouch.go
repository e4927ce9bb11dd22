package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/session"
)

// The history of the file is null before the first process serves from it, and then the
// random text that the process vouched for, or one of these.
const (
	// historyLost marks a file that a process found to be an older copy.
	historyLost = "lost"
	// historyRestored marks a file whose loss was made good. The next process that
	// serves from it may vouch for it.
	historyRestored = "restored"
)

var (
	historySQL = statement(`
select coalesce(history, ''), coalesce((select seq from sqlite_sequence where name = 'cutoffs'), 0) from deployment`)
	setHistorySQL = statement(`update deployment set history = ?`)
)

var errUnclaimed = errors.New("sqlite: only a store with the claim knows what was vouched for")

// Vouched implements [session.RestorationStore] for a store that has the claim.
func (s *Store) Vouched(ctx context.Context) (bool, error) {
	if s.noted == nil {
		return false, errUnclaimed
	}
	history, last, err := s.history(ctx, "Vouched")
	if err != nil {
		return false, err
	}
	switch noted := s.noted.get(); {
	case history == historyRestored || noted.fits(history, last):
		return true, nil
	case history != "" && history != noted.history:
		return false, nil
	}
	// It stays an older copy, however many cutoffs are written to it.
	return false, s.setHistory(ctx, "Vouched", historyLost)
}

// Vouch implements [session.RestorationStore] for a store that has the claim. The
// note is written first. An end of the process in between does no harm then: a file
// that says nothing, or that it was restored, goes with any note.
func (s *Store) Vouch(ctx context.Context) error {
	if s.noted == nil {
		return errUnclaimed
	}
	text := rand.Text()
	err := s.noted.replace(func(n *note) error {
		history, last, err := s.history(ctx, "Vouch")
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
	return s.setHistory(ctx, "Vouch", text)
}

// history returns what the file says of its history, and the greatest cutoff id that
// was ever committed to it.
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
// claim and wait, so this leaves it to that one, or to the next, to vouch. A file that
// is vouched for is not marked: that process would not take the mark away, and backups
// with the mark go with any note.
func (s *Store) EndEverything(ctx context.Context, event auth.AuditEvent, now time.Time) (apps int, err error) {
	vouched, err := s.fitsNote(ctx)
	if err != nil {
		return 0, err
	}
	err = s.inTx(ctx, "EndEverything", func(tx *writeTx) error {
		if apps, err = raiseAllEpochs(ctx, tx, session.MaxRaise, auth.EndAppRevoked, now); err != nil {
			return err
		}
		keys, dead, err := retireKeys(ctx, tx, now)
		if err != nil {
			return err
		}
		event.Detail = map[string]any{"apps": apps, "keys": keys}
		for _, c := range dead {
			if _, err := writeCutoff(ctx, tx, c, now); err != nil {
				return err
			}
		}
		if err := writeAudit(ctx, tx, event); err != nil {
			return err
		}
		if !vouched {
			_, err = tx.ExecContext(ctx, setHistorySQL, historyRestored)
		}
		return err
	})
	return apps, err
}

// fitsNote reports whether the note beside the file is about it as it is. It needs no
// claim.
func (s *Store) fitsNote(ctx context.Context) (bool, error) {
	path, err := s.realPath()
	if err != nil {
		return false, err
	}
	text, err := os.ReadFile(path + notedSuffix) //nolint:gosec // the operator names the file
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("sqlite: note: %w", err)
	}
	history, last, err := s.history(ctx, "EndEverything")
	return parseNote(text).fits(history, last), err
}

var retireKeysSQL = statement(`update signing_keys set retired_at = ?, sealed = x'' where retired_at is null returning kid, use`)

// retireKeys ends all keys, and returns how many, and the cutoffs of those that sign.
func retireKeys(ctx context.Context, tx *writeTx, now time.Time) (n int, dead []auth.Cutoff, err error) {
	rows, err := tx.QueryContext(ctx, retireKeysSQL, micros(now))
	if err != nil {
		return 0, nil, err
	}
	uses, err := collect(rows, func(rows *sql.Rows) (use keyring.Use, err error) {
		var kid string
		if err = rows.Scan(&kid, &use); use == keyring.UseAccess {
			dead = append(dead, auth.KeyCompromised(kid))
		}
		return use, err
	})
	return len(uses), dead, err
}

// notedSuffix names the file beside the database in which a process with the claim
// notes what it vouched for and which cutoffs it saw. A copy of the database that is
// put in its place says something else.
const notedSuffix = "-noted"

// note is what the file says.
type note struct {
	history string
	// last is the greatest cutoff id that was seen.
	last int64
}

// fits reports whether a file with this history and this greatest cutoff id is the one
// that the note is about, or a later state of it.
func (n note) fits(history string, last int64) bool {
	return (history == "" || history == n.history) && last >= n.last
}

// parseNote reads a note. One that cannot be read is empty.
func parseNote(text []byte) (n note) {
	if _, err := fmt.Sscanf(string(text), "%s %d\n", &n.history, &n.last); err != nil {
		return note{}
	}
	return n
}

// noteLayout gives every note the same length, so that one overwrites the other in
// place, in one sector of a disk: it is there as it was or as it is, whenever the
// process ends or the power fails.
const (
	noteLayout = "%-26.26s %020d\n"
	noteLength = 26 + 1 + 20 + 1
)

// noteFile keeps the note. It is safe for concurrent use.
type noteFile struct {
	mu   sync.Mutex
	file *os.File
	note note
}

// openNote reads the note, or an empty one if there is none that can be read.
func openNote(path string) (*noteFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("sqlite: note: %w", err)
	}
	text := make([]byte, noteLength)
	if _, err := f.ReadAt(text, 0); err != nil && !errors.Is(err, io.EOF) {
		_ = f.Close()
		return nil, fmt.Errorf("sqlite: note: %w", err)
	}
	return &noteFile{file: f, note: parseNote(text)}, nil
}

func (f *noteFile) get() note {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.note
}

// replace changes the note durably. Nothing is noted meanwhile.
func (f *noteFile) replace(change func(n *note) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.note
	if err := change(&n); err != nil {
		return err
	}
	if err := f.write(n); err != nil {
		return err
	}
	if err := f.file.Sync(); err != nil {
		return unnoted(err)
	}
	return nil
}

// saw notes a cutoff that was seen. The note survives the process at once; that it
// survives the power as well is left to the system, as after a loss of power it says
// too little at worst.
func (f *noteFile) saw(last int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.note.history == "" || last <= f.note.last {
		return nil
	}
	return f.write(note{f.note.history, last})
}

func (f *noteFile) write(n note) error {
	if _, err := f.file.WriteAt(fmt.Appendf(nil, noteLayout, n.history, n.last), 0); err != nil {
		return unnoted(err)
	}
	f.note = n
	return nil
}

// unnoted is the error of a note that cannot be written: the database is of no use
// without it.
func unnoted(err error) error {
	return &auth.Error{Code: auth.StorageUnavailable, Err: fmt.Errorf("sqlite: note: %w", err)}
}

// close closes the file. It may be called again.
func (f *noteFile) close() error {
	if err := f.file.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
