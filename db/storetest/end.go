package storetest

import (
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

func endParams(s auth.Session, now time.Time) session.EndParams {
	return session.EndParams{
		Session: s.ID, AppID: s.AppID, Reason: auth.EndLogout, Now: now,
		Event: auth.AuditEvent{At: now, Action: auth.AuditSessionLogout, Actor: auth.ActorBearer, RequestID: "req-2",
			Detail: map[string]any{"by": "test"}},
	}
}

func (f *fixture) mustEnd(t testing.TB, s auth.Session, now time.Time) {
	t.Helper()
	if err := f.Store.End(t.Context(), endParams(s, now)); err != nil {
		t.Fatalf("End() error = %v", err)
	}
}

var endTests = []test{
	{"ending writes the session, one cutoff and one audit event", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		other := f.exchange(t, "o-1", t0)
		before := f.counts(t)
		now := t0.Add(time.Hour)
		f.mustEnd(t, s, now)
		f.wantCounts(t, before, counts{Cutoffs: 1, Audit: 1})
		s.EndedAt, s.EndReason = now, auth.EndLogout
		wantEqual(t, "stored", f.stored(t, s.ID), s)
		f.wantAudit(t, s, auth.AuditSessionLogout, auth.ActorBearer, now, map[string]any{"by": "test"})
		f.wantSessionCutoff(t, s, now)
		wantEqual(t, "other session", f.stored(t, other.ID), other)
	}},
	{"ending twice has no further effect", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		f.mustEnd(t, s, t0)
		before, was := f.counts(t), f.stored(t, s.ID)
		f.mustEnd(t, s, t0.Add(time.Hour))
		f.wantCounts(t, before, counts{})
		wantEqual(t, "stored", f.stored(t, s.ID), was)
	}},
	{"ending a deleted session is no error", func(t *testing.T, f *fixture) {
		before := f.counts(t)
		f.mustEnd(t, auth.Session{ID: newID(), AppID: appA}, t0)
		f.wantCounts(t, before, counts{})
	}},
	{"another app's session is not ended", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		before := f.counts(t)
		e := endParams(s, t0)
		e.AppID = appB
		wantCode(t, f.Store.End(t.Context(), e), auth.TokenClientMismatch)
		f.wantCounts(t, before, counts{})
		f.mustEnd(t, s, t0)
		wantCode(t, f.Store.End(t.Context(), e), auth.TokenClientMismatch)
	}},
	{"an idle session can be ended, since its access tokens may be valid", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		before := f.counts(t)
		f.mustEnd(t, s, t0.Add(idleTTL+time.Second))
		f.wantCounts(t, before, counts{Cutoffs: 1, Audit: 1})
	}},
	{"cutoff ids increase", func(t *testing.T, f *fixture) {
		for range 5 {
			f.mustEnd(t, f.exchange(t, "o-1", t0), t0)
		}
		wantEqual(t, "distinct ids", f.number(t, `select count(distinct id) from cutoffs where id > 0`), 5)
	}},
}

var deleteTests = []test{
	{"only expired rows are deleted, at most the limit", func(t *testing.T, f *fixture) {
		for i := range 5 {
			f.exchange(t, "o-1", t0.Add(time.Duration(i)*time.Second))
		}
		live := f.exchange(t, "o-1", t0.Add(time.Hour))
		before := f.counts(t)
		cut := t0.Add(maxTTL + 5*time.Second) // after the fifth, before the sixth
		for _, want := range []int{2, 2, 1, 0} {
			n, err := f.Store.DeleteExpired(t.Context(), cut, cut, 2)
			wantCode(t, err, "")
			wantEqual(t, "deleted rows", n, want)
		}
		f.wantCounts(t, before, counts{Sessions: -5})
		wantEqual(t, "the live one", f.stored(t, live.ID), live)
	}},
	{"a session that expires exactly at the boundary stays", func(t *testing.T, f *fixture) {
		f.exchange(t, "o-1", t0)
		n, err := f.Store.DeleteExpired(t.Context(), t0.Add(maxTTL), t0.Add(maxTTL), 10)
		wantCode(t, err, "")
		wantEqual(t, "deleted rows", n, 0)
	}},
	{"cutoffs are deleted after their retention, key cutoffs never", func(t *testing.T, f *fixture) {
		f.mustEnd(t, f.exchange(t, "o-1", t0), t0)
		f.mustEnd(t, f.exchange(t, "o-1", t0), t0.Add(time.Hour))
		f.plantCutoff(t, `insert into cutoffs (kind, kid, created_at) values ('key', 'k1', ?)`, f.Time(t0))
		before := f.counts(t)
		n, err := f.Store.DeleteExpired(t.Context(), t0, t0.Add(auth.CutoffRetention), 10)
		wantCode(t, err, "")
		wantEqual(t, "rows deleted at the last instant", n, 0)
		n, err = f.Store.DeleteExpired(t.Context(), t0, t0.Add(auth.CutoffRetention+time.Second), 10)
		wantCode(t, err, "")
		wantEqual(t, "rows deleted after it", n, 1)
		n, err = f.Store.DeleteExpired(t.Context(), t0, t0.Add(100*maxTTL), 10)
		wantCode(t, err, "")
		wantEqual(t, "rows deleted in total", n, 1)
		f.wantCounts(t, before, counts{Cutoffs: -2})
		wantEqual(t, "key cutoffs", f.number(t, `select count(*) from cutoffs where kind = 'key'`), 1)
	}},
	{"a cutoff id is never reused after pruning", func(t *testing.T, f *fixture) {
		f.mustEnd(t, f.exchange(t, "o-1", t0), t0)
		first := f.number(t, `select max(id) from cutoffs`)
		_, err := f.Store.DeleteExpired(t.Context(), t0, t0.Add(maxTTL), 10)
		wantCode(t, err, "")
		f.mustEnd(t, f.exchange(t, "o-1", t0), t0)
		if second := f.number(t, `select max(id) from cutoffs`); second <= first {
			t.Errorf("cutoff id after pruning = %d, want more than %d", second, first)
		}
	}},
	{"audit and identities outlive the sessions", func(t *testing.T, f *fixture) {
		f.mustEnd(t, f.exchange(t, "o-1", t0), t0)
		before := f.counts(t)
		_, err := f.Store.DeleteExpired(t.Context(), t0.Add(2*maxTTL), t0, 10)
		wantCode(t, err, "")
		f.wantCounts(t, before, counts{Sessions: -1})
	}},
}
