package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

// together runs fn n times concurrently and waits for all calls.
func together(n int, fn func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() { <-start; fn(i) })
	}
	close(start)
	wg.Wait()
}

// everyTable returns the number of rows of each table of the database, including tables
// that the suite does not know.
func (f *fixture) everyTable(t *testing.T) map[string]int {
	t.Helper()
	query := `select name from sqlite_schema where type = 'table'`
	if f.Dollar {
		query = `select tablename from pg_tables where schemaname = 'public'`
	}
	rows, err := f.DB.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	all := map[string]int{}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		all[name] = 0
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for name := range all {
		all[name] = f.number(t, `select count(*) from `+name)
	}
	return all
}

var contentionTests = []test{
	{"300 refreshes with one token rotate once and share the successor", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		before := f.counts(t)
		var rotated atomic.Int32
		got := make([]auth.Session, 300)
		together(len(got), func(i int) {
			g, err := f.refresh(t.Context(), s.ID, 1, t0.Add(time.Second))
			if err != nil {
				t.Errorf("Refresh() error = %v", err)
				return
			}
			if g.Verdict == session.Rotate {
				rotated.Add(1)
			}
			got[i] = g.Session
		})
		wantEqual(t, "steps", rotated.Load(), 1)
		want := s
		want.Generation, want.RotatedAt, want.IdleExpiresAt = 2, t0.Add(time.Second), t0.Add(time.Second+idleTTL)
		for _, g := range got {
			if diff := cmp.Diff(want, g); diff != "" {
				t.Fatalf("callers got different successors (-want +got):\n%s", diff)
			}
		}
		wantEqual(t, "stored", f.stored(t, s.ID), want)
		f.wantCounts(t, before, counts{})
	}},
	{"100 concurrent stolen tokens end the session once", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		f.mustRefresh(t, s.ID, 1, t0, session.Rotate)
		f.mustRefresh(t, s.ID, 2, t0, session.Rotate)
		before := f.counts(t)
		var reused, revoked atomic.Int32
		together(100, func(int) {
			switch _, err := f.refresh(t.Context(), s.ID, 1, t0); auth.CodeOf(err) {
			case auth.RefreshReused:
				reused.Add(1)
			case auth.SessionRevoked:
				revoked.Add(1)
			default:
				t.Errorf("Refresh() error = %v", err)
			}
		})
		wantEqual(t, "callers that ended it", reused.Load(), 1)
		wantEqual(t, "callers that came after", revoked.Load(), 99)
		f.wantCounts(t, before, counts{Cutoffs: 1, Audit: 1})
	}},
	{"50 concurrent tokens ahead of the row advance it once", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		before := f.counts(t)
		together(50, func(int) {
			g, err := f.refresh(t.Context(), s.ID, 5, t0)
			if err != nil || g.Session.Generation != 6 {
				t.Errorf("Refresh() = generation %d, error %v; want 6, nil", g.Session.Generation, err)
			}
		})
		wantEqual(t, "generation", f.stored(t, s.ID).Generation, 6)
		f.wantCounts(t, before, counts{Audit: 1})
	}},
	{"many first log-ins of one account share one identity", func(t *testing.T, f *fixture) {
		before := f.counts(t)
		ids := make([]auth.Session, 50)
		together(len(ids), func(i int) {
			g, err := f.Store.Exchange(t.Context(), params(appA, "o-1", t0))
			if err != nil {
				t.Errorf("Exchange() error = %v", err)
			}
			ids[i] = g.Session
		})
		for _, s := range ids {
			wantEqual(t, "uuid", s.Identity, ids[0].Identity)
		}
		f.wantCounts(t, before, counts{Identities: 1, Sessions: 50})
	}},
	{"concurrent log-ins, refreshes and log-outs of one account do not deadlock", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		f.bind(t, s.Identity)
		f.mustRefresh(t, s.ID, 1, t0, session.Rotate)
		f.mustRefresh(t, s.ID, 2, t0, session.Rotate)
		together(90, func(i int) {
			var err error
			switch i % 3 {
			case 0:
				_, err = f.Store.Exchange(t.Context(), params(appA, "o-1", t0))
			case 1:
				_, err = f.refresh(t.Context(), s.ID, uint32(1+i%7), t0)
				if errors.Is(err, auth.RefreshReused) || errors.Is(err, auth.SessionRevoked) {
					err = nil
				}
			case 2:
				err = f.Store.End(t.Context(), endParams(s, t0))
			}
			if err != nil {
				t.Errorf("call %d: error = %v", i, err)
			}
		})
		wantEqual(t, "cutoffs", f.counts(t).Cutoffs, 1)
	}},
	{"many refreshes of 100 sessions leave 100 rows and grow no table", func(t *testing.T, f *fixture) {
		const sessions = 100
		ids := make([]auth.Session, sessions)
		for i := range ids {
			ids[i] = f.exchange(t, fmt.Sprintf("o-%d", i), t0)
		}
		before := f.everyTable(t)
		wantEqual(t, "sessions before", before["sessions"], sessions)
		together(10, func(worker int) {
			for i := worker; i < sessions; i += 10 {
				for gen := uint32(1); gen <= refreshesEach; gen++ {
					g, err := f.refresh(t.Context(), ids[i].ID, gen, t0.Add(time.Duration(gen)*time.Second))
					if err != nil || g.Session.Generation != gen+1 {
						t.Errorf("Refresh() = generation %d, error %v; want %d, nil", g.Session.Generation, err, gen+1)
						return
					}
				}
			}
		})
		wantEqual(t, "rows of every table", f.everyTable(t), before)
		wantEqual(t, "sessions at the last generation",
			f.number(t, `select count(*) from sessions where generation = ?`, refreshesEach+1), sessions)
	}},
	{"cutoff ids appear in commit order", func(t *testing.T, f *fixture) {
		const n = 60
		ids := make([]auth.Session, n)
		for i := range ids {
			ids[i] = f.exchange(t, fmt.Sprintf("o-%d", i), t0)
		}
		// After a reader has seen an id, a smaller one must never appear.
		ctx, stop := context.WithCancel(t.Context())
		var reader sync.WaitGroup
		reader.Go(func() {
			seen := map[int64]bool{}
			var last int64
			for ctx.Err() == nil {
				rows, err := f.DB.Query(`select id from cutoffs order by id`)
				if err != nil {
					t.Error(err)
					return
				}
				highest := last
				for rows.Next() {
					var id int64
					if err := rows.Scan(&id); err != nil {
						t.Error(err)
					}
					if !seen[id] && id < last {
						t.Errorf("cutoff %d appeared after %d", id, last)
					}
					seen[id] = true
					highest = max(highest, id)
				}
				if err := rows.Err(); err != nil {
					t.Error(err)
				}
				rows.Close()
				last = highest
			}
		})
		together(n, func(i int) {
			if err := f.Store.End(t.Context(), endParams(ids[i], t0)); err != nil {
				t.Errorf("End() error = %v", err)
			}
		})
		stop()
		reader.Wait()
		wantEqual(t, "cutoffs", f.counts(t).Cutoffs, n)
	}},
}
