package sqlite_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/yufu-auth/yufu/db/sqlite"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

// place is a file from which one process at a time serves.
type place struct {
	t    *testing.T
	path string
	*sqlite.Store
}

// newPlace returns a place whose file was served from and has its history recorded.
func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{t: t, path: filepath.Join(t.TempDir(), "yufu.db")}
	p.start()
	addApp(t, p.Store)
	p.recordHistory()
	return p
}

func (p *place) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) start() {
	p.t.Helper()
	p.Store = migratedStore(p.t, p.path)
	p.must(p.Claim(p.t.Context()))
}

func (p *place) stop() {
	p.t.Helper()
	p.must(p.Close())
}

func (p *place) restart() {
	p.t.Helper()
	p.stop()
	p.start()
}

func (p *place) recordHistory() {
	p.t.Helper()
	p.must(p.RecordHistory(p.t.Context(), nil))
	p.want(true)
}

func (p *place) want(recorded bool) {
	p.t.Helper()
	if _, got, err := p.RecordedHistory(p.t.Context()); err != nil || got != recorded {
		p.t.Errorf("RecordedHistory() = %t, %v; want %t", got, err, recorded)
	}
}

// revoke writes a cutoff.
func (p *place) revoke() {
	p.t.Helper()
	_, err := p.Revoke(p.t.Context(), session.RevokeParams{
		Target: session.Target{All: true}, Now: now, Event: auth.AuditEvent{At: now, Action: auth.AuditRevoked, Actor: auth.ActorCLI},
	})
	p.must(err)
}

// follow reads all cutoffs, as a follower does before a revocation is acknowledged.
func (p *place) follow() {
	p.t.Helper()
	_, err := p.Cutoffs(p.t.Context(), 0, 100)
	p.must(err)
}

// backUp returns a copy of the current file.
func (p *place) backUp() string {
	p.t.Helper()
	path := filepath.Join(p.t.TempDir(), "copy.db")
	p.exec(`vacuum into ?`, path)
	return path
}

// exec runs a statement without the store.
func (p *place) exec(query string, args ...any) {
	p.t.Helper()
	db := openRaw(p.t, p.path)
	_, err := db.ExecContext(p.t.Context(), query, args...)
	p.must(errors.Join(err, db.Close()))
}

// restore replaces the file by a copy and starts again.
func (p *place) restore(backup string) {
	p.t.Helper()
	p.stop()
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Remove(p.path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			p.t.Fatal(err)
		}
	}
	p.copyFile(p.path, backup)
	p.start()
}

func (p *place) copyFile(to, from string) {
	p.t.Helper()
	b, err := os.ReadFile(from)
	p.must(err)
	p.must(os.WriteFile(to, b, 0o600))
}

// raiseEpochs raises the epochs as a command does, with or without a serving process.
func (p *place) raiseEpochs() {
	p.t.Helper()
	s := openStore(p.t, p.path)
	_, err := s.EndEverything(p.t.Context(), auth.AuditEvent{At: now, Action: auth.AuditStoreRolledBack, Actor: auth.ActorCLI}, now)
	p.must(errors.Join(err, s.Close()))
}

func TestRecordedHistory(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]func(p *place){
		"a restart keeps the history": func(p *place) {
			p.restart()
			p.want(true)
			p.revoke()
			p.follow()
			p.restart()
			p.want(true)
		},
		"losing a cutoff that no follower saw does no harm": func(p *place) {
			p.revoke()
			p.restart()
			p.want(true)
		},
		"a copy from before a cutoff that was followed is older": func(p *place) {
			backup := p.backUp()
			p.revoke()
			p.follow()
			p.restore(backup)
			p.want(false)
			p.restart()
			p.want(false)
		},
		"an older copy stays one, however many cutoffs are written to it": func(p *place) {
			backup := p.backUp()
			p.revoke()
			p.follow()
			p.restore(backup)
			p.want(false)
			for range 3 {
				p.revoke()
				p.follow()
				p.want(false)
			}
			p.restart()
			p.want(false)
		},
		"a copy from before the first record is older": func(p *place) {
			p.exec(`update deployment set history = null`)
			backup := p.backUp()
			p.recordHistory()
			p.revoke()
			p.follow()
			p.restore(backup)
			p.want(false)
			p.revoke()
			p.want(false)
		},
		"a copy with every followed cutoff counts as recorded": func(p *place) {
			p.revoke()
			p.follow()
			p.restore(p.backUp())
			p.want(true)
		},
		"the original file put back counts as recorded": func(p *place) {
			backup := p.backUp()
			p.revoke()
			p.follow()
			right := p.backUp()
			p.restore(backup)
			p.want(false)
			p.restore(right)
			p.want(true)
		},
		"raising the epochs beside a waiting process ends the loss": func(p *place) {
			backup := p.backUp()
			for range 3 {
				p.revoke()
			}
			p.follow()
			p.restore(backup)
			p.want(false)
			p.raiseEpochs()
			p.want(true)
			p.recordHistory()
			p.restart()
			p.want(true)
			// The older copy still counts as older.
			p.restore(backup)
			p.want(false)
		},
		"raising the epochs while no process runs ends the loss": func(p *place) {
			backup := p.backUp()
			p.revoke()
			p.follow()
			p.restore(backup)
			p.stop()
			p.raiseEpochs()
			p.raiseEpochs()
			p.start()
			p.want(true)
			p.restart()
			p.want(true)
			p.recordHistory()
		},
		"a backup made after raising the epochs beside a serving process can be restored": func(p *place) {
			p.raiseEpochs()
			p.want(true)
			p.follow()
			right := p.backUp()
			p.revoke()
			p.restore(right)
			p.want(true)
			p.revoke()
			p.follow()
			p.restore(right)
			p.want(false)
		},
		"a file in another place needs its note": func(p *place) {
			moved := &place{t: p.t, path: filepath.Join(p.t.TempDir(), "moved.db")}
			moved.copyFile(moved.path, p.backUp())
			moved.start()
			moved.want(false)
			moved.stop()
			moved.copyFile(moved.path+"-noted", p.path+"-noted")
			moved.start()
			moved.want(true)
		},
		"without a readable note no history is recorded": func(p *place) {
			for name, note := range map[string]string{
				"nothing": "", "part of one": "ABCDEFGHIJ", "zeroes": string(make([]byte, 48)), "something else": "SQLite format 3\x00 and so on, and on and on and on",
			} {
				p.stop()
				p.must(os.WriteFile(p.path+"-noted", []byte(note), 0o600))
				p.start()
				p.want(false)
				if p.t.Failed() {
					p.t.Fatalf("RecordedHistory() is wrong with %s in the note", name)
				}
				p.recordHistory()
				p.restart()
				p.want(true)
			}
		},
		"an end of the process while it records a restored file does no harm": func(p *place) {
			older := p.backUp()
			p.revoke()
			p.follow()
			p.restore(older)
			p.raiseEpochs()
			backup := p.backUp()
			p.recordHistory()
			p.restore(backup)
			p.want(true)
			p.recordHistory()
			p.restart()
			p.want(true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(newPlace(t))
		})
	}
}

// An earlier version leaves a lock beside the file, and no note.
func TestFileWithoutHistory(t *testing.T) {
	t.Parallel()
	p := &place{t: t, path: filepath.Join(t.TempDir(), "yufu.db")}
	p.must(os.WriteFile(p.path+"-lock", nil, 0o600))
	p.start()
	addApp(t, p.Store)
	p.revoke()
	p.follow()
	p.restart() // as after a kill before it recorded
	p.want(true)
	p.recordHistory()
	p.restart()
	p.want(true)
	for _, suffix := range []string{"-lock", "-noted"} {
		if info, err := os.Stat(p.path + suffix); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: info %v, error %v; want a file for its owner only", suffix, info, err)
		}
	}
}

func TestHistoryNeedsClaim(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	other := openStore(t, p.path)
	if _, got, err := other.RecordedHistory(t.Context()); got || auth.CodeOf(err) != auth.Internal {
		t.Errorf("RecordedHistory() = %t, %v; want a defect", got, err)
	}
	if err := other.RecordHistory(t.Context(), nil); auth.CodeOf(err) != auth.Internal {
		t.Errorf("RecordHistory() error = %v, want a defect", err)
	}
	p.want(true)
}

func TestNoteFailure(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.revoke()
	p.must(sqlite.CloseNote(p.Store))
	if _, err := p.Cutoffs(t.Context(), 0, 10); !errors.Is(err, auth.StorageUnavailable) {
		t.Errorf("Cutoffs() error = %v, want %v", err, auth.StorageUnavailable)
	}
	if err := p.RecordHistory(t.Context(), nil); !errors.Is(err, auth.StorageUnavailable) {
		t.Errorf("RecordHistory() error = %v, want %v", err, auth.StorageUnavailable)
	}
}
