package postgres_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

// As in locks_test.go, these tests hold a transaction open and ask PostgreSQL which calls
// wait.

func restoreParams(deployment uuid.UUID, remembered ...auth.Cutoff) session.RestoreParams {
	return session.RestoreParams{
		Deployment: deployment, Remembered: remembered, Now: now,
		Event: auth.AuditEvent{At: now, Action: auth.AuditStoreRolledBack, Actor: auth.ActorService},
	}
}

func (b *bed) deployment() uuid.UUID {
	b.t.Helper()
	batch, err := b.store.Cutoffs(b.t.Context(), 0, 1)
	if err != nil {
		b.t.Fatal(err)
	}
	return batch.Deployment
}

// restoring is a restoration in progress.
type restoring struct {
	restored session.Restored
	err      error
}

func (b *bed) startRestore(remembered ...auth.Cutoff) <-chan restoring {
	b.t.Helper()
	r := restoreParams(b.deployment(), remembered...)
	done := make(chan restoring, 1)
	go func() {
		restored, err := b.store.RestoreCutoffs(b.t.Context(), r)
		done <- restoring{restored, err}
	}()
	return done
}

func (b *bed) wantRestored(done <-chan restoring, want session.Restored) {
	b.t.Helper()
	if r := <-done; r.err != nil || cmp.Diff(want, r.restored) != "" {
		b.t.Errorf("RestoreCutoffs() = %+v, %v; want %+v", r.restored, r.err, want)
	}
}

func verOf(s auth.Session, ver int64) auth.Cutoff { return auth.SessionChanged("", s.ID, ver, now) }

func (b *bed) stored(s auth.Session) auth.Session {
	b.t.Helper()
	st, err := b.store.Session(b.t.Context(), s.ID)
	if err != nil {
		b.t.Fatal(err)
	}
	return st.Session
}

func TestRestoreBesideAnotherTransaction(t *testing.T) {
	t.Parallel()
	one := session.Restored{Sessions: 1}
	for name, run := range map[string]func(b *bed, s auth.Session){
		"it holds no session while it waits for an identity": func(b *bed, s auth.Session) {
			tx := b.begin()
			b.exec(tx, `select from identities where uuid = $1 for update`, s.Identity)
			done := b.startRestore(verOf(s, 2))
			b.untilWaiting(1, row)
			b.exec(tx, `select from sessions where id = $1 for update nowait`, s.ID)
			b.commit(tx)
			b.wantRestored(done, one)
		},
		"a session that ended meanwhile has ended": func(b *bed, s auth.Session) {
			tx := b.begin()
			b.exec(tx, `select from identities where uuid = $1 for update`, s.Identity)
			done := b.startRestore(verOf(s, 2))
			b.untilWaiting(1, row)
			b.exec(tx, `update sessions set ended_at = $2, end_reason = 'logout' where id = $1`, s.ID, now)
			b.commit(tx)
			b.wantRestored(done, session.Restored{})
			if got := b.stored(s); got.Ver != s.Ver || got.EndReason != auth.EndLogout {
				b.t.Errorf("session has ver %d, end reason %q; want %d, logout", got.Ver, got.EndReason, s.Ver)
			}
		},
		"a ver that was raised meanwhile is not raised twice": func(b *bed, s auth.Session) {
			tx := b.begin()
			b.exec(tx, `select from identities where uuid = $1 for update`, s.Identity)
			done := b.startRestore(verOf(s, 4))
			b.untilWaiting(1, row)
			b.exec(tx, `update sessions set ver = 5 where id = $1`, s.ID)
			b.commit(tx)
			b.wantRestored(done, session.Restored{})
			if got := b.stored(s); got.Ver != 5 {
				b.t.Errorf("ver = %d, want 5", got.Ver)
			}
		},
		"a session that was deleted meanwhile is skipped": func(b *bed, s auth.Session) {
			tx := b.begin()
			b.exec(tx, `delete from sessions where id = $1`, s.ID)
			done := b.startRestore(verOf(s, 4))
			b.untilWaiting(1, row)
			b.commit(tx)
			b.wantRestored(done, session.Restored{})
			if n := b.number(b.raw, `select count(*) from cutoffs`); n != 0 {
				b.t.Errorf("%d cutoffs, want 0", n)
			}
		},
		"a refresh that waits for it carries the new ver": func(b *bed, s auth.Session) {
			tx := b.begin()
			b.exec(tx, `select pg_advisory_xact_lock($1)`, postgres.LockCutoffs)
			done := b.startRestore(verOf(s, 4))
			b.untilWaiting(1, advisory)
			refreshed := b.startRefresh(refreshParams(s.ID, s.Generation))
			b.untilWaiting(1, row)
			b.commit(tx)
			b.wantRestored(done, one)
			if r := <-refreshed; r.err != nil || r.granted.Session.Ver != 5 {
				b.t.Errorf("Refresh() = ver %d, %v; want 5", r.granted.Session.Ver, r.err)
			}
		},
		"it raises a session whose refresh it waits for": func(b *bed, s auth.Session) {
			tx := b.begin()
			b.exec(tx, `update sessions set generation = generation + 1 where id = $1`, s.ID)
			done := b.startRestore(verOf(s, 4))
			b.untilWaiting(1, row)
			b.commit(tx)
			b.wantRestored(done, one)
			if got := b.stored(s); got.Ver != 5 || got.Generation != s.Generation+1 {
				b.t.Errorf("session has ver %d, generation %d; want 5, %d", got.Ver, got.Generation, s.Generation+1)
			}
		},
		"a bind that waits for it is refused, because its token is outdated": func(b *bed, s auth.Session) {
			p := b.newPerson()
			tx := b.begin()
			b.exec(tx, `select pg_advisory_xact_lock($1)`, postgres.LockCutoffs)
			done := b.startRestore(verOf(s, 4))
			b.untilWaiting(1, advisory)
			bound := b.startBind(bindParams(s, p.ID))
			b.untilWaiting(1, row)
			b.commit(tx)
			b.wantRestored(done, one)
			if r := <-bound; !errors.Is(r.err, auth.SessionRevoked) {
				b.t.Errorf("Bind() error = %v, want %v", r.err, auth.SessionRevoked)
			}
		},
		"a log-out that waits for it ends the session": func(b *bed, s auth.Session) {
			tx := b.begin()
			b.exec(tx, `select pg_advisory_xact_lock($1)`, postgres.LockCutoffs)
			done := b.startRestore(verOf(s, 4))
			b.untilWaiting(1, advisory)
			ended := b.startEnd(s.ID)
			b.untilWaiting(1, row)
			b.commit(tx)
			b.wantRestored(done, one)
			if r := <-ended; r.err != nil {
				b.t.Error(r.err)
			}
			if n := b.number(b.raw, `select ver from cutoffs where session_id = $1 order by id desc limit 1`, s.ID); n != 0 {
				b.t.Errorf("ver of the last cutoff = %d, want 0", n)
			}
		},
		"it waits for the revocation of an app and raises the new epoch": func(b *bed, s auth.Session) {
			tx := b.begin()
			b.exec(tx, `select pg_advisory_xact_lock($1)`, postgres.LockCutoffs)
			revoked := b.startRevoke(session.Target{AppID: appID})
			b.untilWaiting(1, advisory)
			done := b.startRestore(verOf(s, 2), auth.AppRevoked(appID, 1, now))
			b.untilWaiting(1, row)
			b.commit(tx)
			if r := <-revoked; r.err != nil {
				b.t.Error(r.err)
			}
			// The revocation used the remembered epoch again.
			b.wantRestored(done, one)
			if n := b.number(b.raw, `select epoch from apps`); n != 1 {
				b.t.Errorf("epoch = %d, want 1", n)
			}
		},
		"a concurrent log-in has the old or the new epoch": func(b *bed, _ auth.Session) {
			tx := b.begin()
			b.exec(tx, `select pg_advisory_xact_lock($1)`, postgres.LockCutoffs)
			done := b.startRestore(auth.AppRevoked(appID, 6, now))
			b.untilWaiting(1, advisory)
			early := b.exchange() // does not wait
			b.commit(tx)
			b.wantRestored(done, session.Restored{Apps: 1})
			late := b.exchange()
			if early.Epoch != 0 || late.Epoch != 7 {
				b.t.Errorf("epochs of the log-ins = %d and %d, want 0 and 7", early.Epoch, late.Epoch)
			}
			if r := <-b.startRefresh(refreshParams(early.ID, 1)); !errors.Is(r.err, auth.SessionRevoked) {
				b.t.Errorf("Refresh() error = %v, want %v", r.err, auth.SessionRevoked)
			}
		},
		"the id of its cutoff is taken last": func(b *bed, s auth.Session) {
			tx := b.begin()
			b.exec(tx, `select from identities where uuid = $1 for update`, s.Identity)
			done := b.startRestore(verOf(s, 2))
			b.untilWaiting(1, row)
			// Another revocation overtakes it.
			if r := <-b.startRevoke(session.Target{AppID: appID}); r.err != nil {
				b.t.Fatal(r.err)
			}
			b.commit(tx)
			b.wantRestored(done, one)
			if n := b.number(b.raw, `select count(*) from cutoffs a join cutoffs b on a.id < b.id where a.kind = 'app' and b.session_id = $1`, s.ID); n != 1 {
				b.t.Error("the later commit has the smaller id")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			run(b, b.exchange())
		})
	}
}
