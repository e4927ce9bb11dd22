package sqlite

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// notedSuffix names the file beside the database in which the process with the claim
// notes the history that it recorded and the cutoffs that it saw. A copy that replaces
// the database has another history or fewer cutoffs.
const notedSuffix = "-noted"

// note is the content of the file.
type note struct {
	history string
	// last is the greatest cutoff id that was seen.
	last int64
}

// matches reports whether the note describes a file with this history and this greatest
// cutoff id, or an earlier state of that file.
func (n note) matches(history string, last int64) bool {
	return (history == "" || history == n.history) && last >= n.last
}

// parseNote parses a note. It returns an empty one for an invalid text.
func parseNote(text []byte) (n note) {
	if _, err := fmt.Sscanf(string(text), "%s %d\n", &n.history, &n.last); err != nil {
		return note{}
	}
	return n
}

// noteLayout gives every note the same length, so that a note overwrites the previous one
// in place, in one sector of a disk. Whenever the process ends or the power fails, the
// file holds the previous note or the new one.
const (
	noteLayout = "%-26.26s %020d\n"
	noteLength = 26 + 1 + 20 + 1
)

// noteFile stores the note. It is safe for concurrent use.
type noteFile struct {
	mu   sync.Mutex
	file *os.File
	note note
}

// openNote reads the note, or an empty one if there is no valid note.
func openNote(path string) (*noteFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("sqlite: note file: %w", err)
	}
	text := make([]byte, noteLength)
	if _, err := f.ReadAt(text, 0); err != nil && !errors.Is(err, io.EOF) {
		_ = f.Close()
		return nil, fmt.Errorf("sqlite: note file: %w", err)
	}
	return &noteFile{file: f, note: parseNote(text)}, nil
}

func (f *noteFile) get() note {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.note
}

// replace changes the note durably. Calls of record wait meanwhile.
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
		return noteError(err)
	}
	return nil
}

// record notes a cutoff that was seen. The note survives the process at once. It is not
// flushed: a power failure may leave an older note, which detects fewer older copies but
// never a false one.
func (f *noteFile) record(last int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.note.history == "" || last <= f.note.last {
		return nil
	}
	return f.write(note{f.note.history, last})
}

func (f *noteFile) write(n note) error {
	if _, err := f.file.WriteAt(fmt.Appendf(nil, noteLayout, n.history, n.last), 0); err != nil {
		return noteError(err)
	}
	f.note = n
	return nil
}

// noteError is the error of a note that cannot be read or written. The database cannot be
// used without the note.
func noteError(err error) error {
	return &auth.Error{Code: auth.StorageUnavailable, Err: fmt.Errorf("sqlite: note file: %w", err)}
}

// close closes the file. It may be called more than once.
func (f *noteFile) close() error {
	if err := f.file.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
