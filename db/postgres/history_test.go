package postgres_test

import (
	"context"
	"crypto/rand"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

// Statements of a superuser that make a database resemble hardened and managed ones.
const (
	revokeControl = `revoke execute on function pg_catalog.pg_control_system() from public`
	revokeWAL     = `revoke execute on function pg_catalog.pg_current_wal_lsn() from public`
	revokeStart   = `revoke execute on function pg_catalog.pg_postmaster_start_time() from public`
	// The error of Amazon Aurora.
	raiseWAL = `alter function pg_catalog.pg_current_wal_lsn() rename to pg_renamed_wal_lsn;
create function pg_catalog.pg_current_wal_lsn() returns pg_lsn language plpgsql as
$$ begin raise exception 'wal_level must be set to ''logical''' using errcode = '55000'; end $$`
)

func TestHistoryWithout(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sql     []string
		without []string
	}{
		"nothing is refused":    {nil, nil},
		"the control file":      {[]string{revokeControl}, []string{"pg_control_system()"}},
		"the write-ahead log":   {[]string{revokeWAL}, []string{"pg_current_wal_lsn()"}},
		"as Aurora":             {[]string{raiseWAL}, []string{"pg_current_wal_lsn()"}},
		"all hardened parts":    {[]string{revokeControl, revokeWAL, revokeStart}, []string{"pg_control_system()", "pg_current_wal_lsn()", "pg_postmaster_start_time()"}},
		"the table of the rows": {[]string{`revoke select on pg_catalog.pg_database from public`}, []string{"pg_database"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn, role := pgtest.Empty(t), "tenant_"+strings.ToLower(rand.Text())
			admin := openRaw(t, dsn)
			exec := func(sql string) {
				t.Helper()
				if _, err := admin.ExecContext(context.WithoutCancel(t.Context()), sql); err != nil {
					t.Fatalf("%s: %v", sql, err)
				}
			}
			exec(`create role ` + role + ` login`)
			t.Cleanup(func() { exec(`drop owned by ` + role + ` cascade; drop role ` + role) })
			exec(`grant create, usage on schema public to ` + role)
			for _, sql := range c.sql {
				exec(sql)
			}
			u, err := url.Parse(dsn)
			if err != nil {
				t.Fatal(err)
			}
			u.User = url.User(role)
			s, replica := openStore(t, u.String()), openStore(t, u.String())
			if err := s.Migrate(t.Context(), shardtest.Sealed); err != nil {
				t.Fatal(err)
			}
			b := &bed{t: t, store: s, raw: admin, dsn: dsn}
			b.addApp()
			b.exchange()
			if _, err := s.Revoke(t.Context(), revokeParams(session.Target{All: true})); err != nil {
				t.Fatal(err)
			}
			timeline := func(s *postgres.Store) string {
				t.Helper()
				batch, err := s.Cutoffs(t.Context(), 0, 10)
				if err != nil || len(batch.Cutoffs) != 1 || batch.Timeline == "" {
					t.Fatalf("Cutoffs() = %d cutoffs, timeline %q, error %v; want 1 and a name", len(batch.Cutoffs), batch.Timeline, err)
				}
				return batch.Timeline
			}
			first := timeline(s)
			if got := s.HistoryWithout(); !slices.Equal(got, c.without) {
				t.Errorf("HistoryWithout() = %q, want %q", got, c.without)
			}
			if again, other := timeline(s), timeline(replica); again != first || other != first {
				t.Errorf("name of the history = %s, then %s, and %s for another replica; want equal names", first, again, other)
			}
			// Roles with and without the privileges name the same history.
			all := openStore(t, dsn)
			for _, by := range []*postgres.Store{openStore(t, u.String()), all} {
				if err := by.RecordHistory(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
				for _, s := range []*postgres.Store{s, openStore(t, u.String()), all} {
					wantRecorded(t, s, true)
				}
			}
			// As pg_restore does: the same rows in another file.
			exec(`create table copied as table cutoffs; truncate cutoffs; insert into cutoffs overriding system value table copied`)
			if got := timeline(s); got == first {
				t.Error("a restored table has the same history, want another one")
			}
			fresh := openStore(t, u.String())
			wantRecorded(t, fresh, false)
			if _, err := openStore(t, u.String()).EndEverything(t.Context(), event(auth.AuditStoreRolledBack), now); err != nil {
				t.Fatal(err)
			}
			wantRecorded(t, fresh, true)
		})
	}
}
