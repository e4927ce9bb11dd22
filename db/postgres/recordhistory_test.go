package postgres_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/pkg/auth"
)

func wantRecorded(t *testing.T, s *postgres.Store, want bool) {
	t.Helper()
	if _, got, err := s.RecordedHistory(t.Context()); err != nil || got != want {
		t.Errorf("RecordedHistory() = %t, %v; want %t", got, err, want)
	}
}

func (b *bed) recordHistory() {
	b.t.Helper()
	if err := b.store.RecordHistory(b.t.Context(), nil); err != nil {
		b.t.Fatal(err)
	}
	wantRecorded(b.t, b.store, true)
}

func TestHistoryAfterTakeover(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.recordHistory()
	for name, end := range map[string]func() error{"stop": p.primary.Stop, "kill": p.primary.Kill} {
		p.must(end())
		p.must(p.primary.Start())
		if p.store.Ping(t.Context()) != nil {
			p.must(p.store.Ping(t.Context())) // a connection from before
		}
		if _, got, err := p.store.RecordedHistory(t.Context()); err != nil || !got {
			t.Errorf("after a %s: RecordedHistory() = %t, %v; want true", name, got, err)
		}
	}
	p.must(p.standby.Stop())
	p.recordHistory() // writes nothing and so does not wait
	p.must(p.standby.Start())
	standby := openStore(t, p.standby.DSN("postgres"))
	if _, _, err := standby.RecordedHistory(t.Context()); !errors.Is(err, auth.StorageUnavailable) {
		t.Errorf("RecordedHistory() on the standby: error = %v, want %v", err, auth.StorageUnavailable)
	}
	if err := standby.RecordHistory(t.Context(), nil); !errors.Is(err, auth.StorageUnavailable) {
		t.Errorf("RecordHistory() on the standby: error = %v, want %v", err, auth.StorageUnavailable)
	}
	p.must(p.primary.Kill())
	p.must(p.standby.Promote(t.Context()))
	wantRecorded(t, standby, false)
	p.must(standby.RecordHistory(t.Context(), nil))
	wantRecorded(t, standby, true)
}

func TestHistoryAfterRestore(t *testing.T) {
	t.Parallel()
	for name, restore := range map[string]func(b *bed) *postgres.Store{
		"as by pg_restore --clean": func(b *bed) *postgres.Store {
			b.exec(b.raw, `create table copied as table cutoffs; truncate cutoffs; insert into cutoffs overriding system value table copied`)
			return b.store
		},
		"by a rewrite of the table": func(b *bed) *postgres.Store {
			b.exec(b.raw, `vacuum full cutoffs`)
			return b.store
		},
		"into another database": func(b *bed) *postgres.Store {
			u, err := url.Parse(b.dsn)
			if err != nil {
				b.t.Fatal(err)
			}
			b.store.Close()
			b.raw.Close()
			name, copied := strings.TrimPrefix(u.Path, "/"), strings.TrimPrefix(u.Path, "/")+"_copy"
			u.Path = "/postgres"
			admin := openRaw(b.t, u.String())
			b.exec(admin, `create database `+copied+` template `+name)
			u.Path = "/" + copied
			s := openStore(b.t, u.String())
			b.t.Cleanup(func() {
				s.Close()
				if _, err := admin.Exec(`drop database ` + copied); err != nil {
					b.t.Error(err)
				}
			})
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			b.recordHistory()
			s := restore(b)
			wantRecorded(t, s, false)
			if _, err := s.EndEverything(t.Context(), auth.AuditEvent{At: now, Action: auth.AuditStoreRolledBack, Actor: auth.ActorCLI}, now); err != nil {
				t.Fatal(err)
			}
			wantRecorded(t, s, true)
		})
	}
}

// A role without privileges lacks the parts of [postgres.Store.HistoryWithout].
func TestHistoryUnreadableParts(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.recordHistory()
	for name, c := range map[string]struct {
		history string
		want    bool
	}{
		"all parts":                     {`array[history[1], history[2], history[3], history[4]]`, true},
		"only the table's file":         {`array['-', '-', '-', history[4]]`, true},
		"another cluster":               {`array['1', history[2], history[3], history[4]]`, false},
		"another timeline":              {`array[history[1], '00000009', history[3], history[4]]`, false},
		"another database":              {`array[history[1], history[2], '1', history[4]]`, false},
		"another file":                  {`array[history[1], history[2], history[3], '1']`, false},
		"another file, the rest unread": {`array['-', '-', '-', '1']`, false},
		"fewer parts":                   {`array[history[1]]`, false},
	} {
		b.exec(b.raw, `update deployment set history = `+c.history)
		if _, got, err := b.store.RecordedHistory(t.Context()); err != nil || got != c.want {
			t.Errorf("%s: RecordedHistory() = %t, %v; want %t", name, got, err, c.want)
		}
		b.recordHistory()
	}
}

// If a second failover happens while revocations are restored after the first one, its
// history is not recorded.
func TestRecordOutdatedHistory(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	if err := b.store.RecordHistory(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	over, _, err := b.store.RecordedHistory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.exec(b.raw, `truncate cutoffs`) // creates another file
	wantRecorded(t, b.store, false)
	if err := b.store.RecordHistory(t.Context(), over); !errors.Is(err, auth.StorageUnavailable) {
		t.Errorf("RecordHistory() error = %v, want %v", err, auth.StorageUnavailable)
	}
	wantRecorded(t, b.store, false)
	present, _, err := b.store.RecordedHistory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.store.RecordHistory(t.Context(), present); err != nil {
		t.Fatal(err)
	}
	wantRecorded(t, b.store, true)
}
