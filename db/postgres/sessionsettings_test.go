package postgres_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

// hostile are values of settings that change the meaning of a statement or the guarantee
// of a commit, and the values that a connection of the store must have.
var hostile = map[string][2]string{
	"search_path":                         {"app, public", "public"},
	"client_encoding":                     {"GBK", "UTF8"},
	"timezone":                            {"Asia/Shanghai", "UTC"},
	"datestyle":                           {"SQL, DMY", "ISO, MDY"},
	"intervalstyle":                       {"sql_standard", "postgres"},
	"bytea_output":                        {"escape", "hex"},
	"standard_conforming_strings":         {"off", "on"},
	"transform_null_equals":               {"on", "off"},
	"array_nulls":                         {"off", "on"},
	"row_security":                        {"off", "on"},
	"exit_on_error":                       {"on", "off"},
	"default_table_access_method":         {"nosuch", "heap"},
	"default_transaction_isolation":       {"serializable", "read committed"},
	"client_min_messages":                 {"error", "notice"},
	"synchronous_commit":                  {"off", "on"},
	"statement_timeout":                   {"10s", "30s"},
	"lock_timeout":                        {"10s", "0"},
	"idle_in_transaction_session_timeout": {"10s", "30s"},
	"idle_session_timeout":                {"10s", "0"},
}

// setForDatabase creates an empty database with settings for it and for its role.
func setForDatabase(t *testing.T, settings map[string]string) string {
	t.Helper()
	dsn := pgtest.Empty(t)
	db := openRaw(t, dsn)
	var database string
	if err := db.QueryRow(`select current_database()`).Scan(&database); err != nil {
		t.Fatal(err)
	}
	for name, value := range settings {
		quoted := "'" + value + "'"
		switch name {
		case "default_table_access_method":
			continue // the server has only heap and checks the name
		case "search_path", "datestyle": // lists
			quoted = value
		}
		for _, whose := range []string{`database ` + database, `role current_user in database ` + database} {
			if _, err := db.Exec(`alter ` + whose + ` set ` + name + ` to ` + quoted); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	return dsn
}

func TestDatabaseSettingsAreOverridden(t *testing.T) {
	t.Parallel()
	values := map[string]string{}
	for name, v := range hostile {
		values[name] = v[0]
	}
	dsn := setForDatabase(t, values)
	bare := strings.Replace(dsn, "?", "?application_name=setup&", 1)
	setup, err := pgx.Connect(t.Context(), bare+"&search_path=public&idle_session_timeout=0&lock_timeout=0&statement_timeout=0&idle_in_transaction_session_timeout=0&client_encoding=UTF8")
	if err != nil {
		t.Fatal(err)
	}
	defer setup.Close(context.Background())
	if _, err := setup.Exec(t.Context(), `create schema app`); err != nil {
		t.Fatal(err)
	}

	s := openStore(t, dsn)
	if err := s.Migrate(t.Context(), shardtest.Sealed); err != nil {
		t.Fatal(err)
	}
	for pool, show := range postgres.Shows(s) {
		for name, v := range hostile {
			got, err := show(t.Context(), name)
			if err != nil || got != v[1] {
				t.Errorf("%s: %s is %q (%v), want %q", pool, name, got, err, v[1])
			}
		}
	}
	rows, err := setup.Query(t.Context(), `select distinct schemaname::text from pg_tables where schemaname not in ('pg_catalog', 'information_schema')`)
	if err != nil {
		t.Fatal(err)
	}
	schemas, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || !slices.Equal(schemas, []string{"public"}) {
		t.Errorf("schemas with tables = %v (error %v), want public", schemas, err)
	}

	err = s.AddApp(t.Context(), auth.App{ID: appID, Platform: auth.PlatformWeChat, SealedCredentials: map[string][]byte{auth.CredentialAppSecret: []byte(`\x`)}},
		auth.AuditEvent{At: now, Action: auth.AuditAppAdded, Actor: auth.ActorCLI})
	if err != nil {
		t.Fatal(err)
	}
	p := exchangeParams()
	p.Device = `张三的 \ 手机`
	g, err := s.Exchange(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	st, err := s.Session(t.Context(), g.Session.ID)
	if err != nil || st.Session.Device != p.Device || !st.Session.StartedAt.Equal(now) {
		t.Errorf("Session() = %+v (error %v), want device %q and start %v", st.Session, err, p.Device, now)
	}
	if _, err := s.Revoke(t.Context(), revokeParams(session.Target{All: true})); err != nil {
		t.Errorf("Revoke() error = %v", err)
	}
	if b, err := s.Cutoffs(t.Context(), 0, 10); err != nil || len(b.Cutoffs) != 1 {
		t.Errorf("Cutoffs() = %d cutoffs (error %v), want 1", len(b.Cutoffs), err)
	}
}

func TestRemoteApplyIsKept(t *testing.T) {
	t.Parallel()
	s := openStore(t, setForDatabase(t, map[string]string{"synchronous_commit": "remote_apply"}))
	for pool, show := range postgres.Shows(s) {
		if got, err := show(t.Context(), "synchronous_commit"); err != nil || got != "remote_apply" {
			t.Errorf("%s: synchronous_commit is %q (%v), want remote_apply", pool, got, err)
		}
	}
}

func TestRefusedSettings(t *testing.T) {
	t.Parallel()
	refused := func(t *testing.T, err error, name string) {
		t.Helper()
		var setting *postgres.SettingError
		if !errors.As(err, &setting) || !strings.Contains(setting.Name, name) {
			t.Errorf("error = %v, want a SettingError that names %s", err, name)
		}
	}
	t.Run("an invalid setting in the URL is refused", func(t *testing.T) {
		t.Parallel()
		for parameter, want := range map[string]string{
			"sslcert=/dev/null":            "sslcert",
			"sslmode=hunter2":              "sslmode",
			"pool_max_conns=0":             "pool_max_conns",
			"connect_timeout=hunter2":      "connect_timeout",
			"target_session_attrs=hunter2": "target_session_attrs",
		} {
			_, err := postgres.Open(t.Context(), "postgres://u:hunter2@127.0.0.1/d?"+parameter)
			refused(t, err, want)
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: the error quotes a value of the URL: %v", parameter, err)
			}
		}
	})
	t.Run("settings in the URL are refused", func(t *testing.T) {
		t.Parallel()
		dsn := pgtest.Empty(t)
		given := map[string]string{"session_replication_role": "replica", "default_query_exec_mode": "exec", "statement_cache_capacity": "0"}
		for name, v := range hostile {
			given[name] = v[0]
		}
		delete(given, "statement_timeout") // which may be set
		for _, name := range slices.Sorted(maps.Keys(given)) {
			param := "&" + name + "=" + strings.ReplaceAll(given[name], " ", "%20")
			s, err := postgres.Open(t.Context(), dsn+param)
			if err == nil {
				s.Close()
			}
			refused(t, err, name)
		}
		for _, mode := range []string{"cache_describe", "describe_exec", "simple_protocol"} {
			_, err := postgres.Open(t.Context(), dsn+"&default_query_exec_mode="+mode)
			refused(t, err, "default_query_exec_mode")
		}
		for _, name := range []string{"search_path", "TimeZone", "statement_timeout", "synchronous_commit"} {
			_, err := postgres.Open(t.Context(), dsn+"&options=-c%20"+name+"%3Dx")
			refused(t, err, strings.ToLower(name))
		}
		ok := openStore(t, dsn+"&search_path=public&TimeZone=utc&client_encoding=utf8&statement_timeout=5s&options=-c%20work_mem%3D8MB")
		for pool, show := range postgres.Shows(ok) {
			for name, want := range map[string]string{"statement_timeout": "5s", "work_mem": "8MB", "client_encoding": "UTF8"} {
				if got, err := show(t.Context(), name); err != nil || got != want {
					t.Errorf("%s: %s is %q (%v), want %q", pool, name, got, err, want)
				}
			}
		}
	})
	t.Run("settings of the database are refused", func(t *testing.T) {
		t.Parallel()
		s := openStore(t, setForDatabase(t, map[string]string{"session_replication_role": "replica"}))
		refused(t, s.Migrate(t.Context(), shardtest.Sealed), "session_replication_role")
		refused(t, s.CheckPooling(t.Context()), "session_replication_role")
		_, err := s.Cutoffs(t.Context(), 0, 1)
		refused(t, err, "session_replication_role")
		listening, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		refused(t, s.Listen(listening, func() {}), "session_replication_role")
	})
	t.Run("another encoding of the database is refused", func(t *testing.T) {
		t.Parallel()
		for _, encoding := range []string{"SQL_ASCII", "LATIN1"} {
			s := openStore(t, pgtest.Empty(t, "encoding '"+encoding+"' locale 'C' template template0"))
			err := s.Migrate(t.Context(), shardtest.Sealed)
			refused(t, err, "server_encoding")
			if err == nil || !strings.Contains(err.Error(), encoding) {
				t.Errorf("error = %v, want one that names %s", err, encoding)
			}
		}
	})
}

func TestReadOnlyByDefault(t *testing.T) {
	t.Parallel()
	s := openStore(t, setForDatabase(t, map[string]string{"default_transaction_read_only": "on"}))
	err := s.Ping(t.Context())
	if auth.CodeOf(err) != auth.StorageUnavailable || !strings.Contains(err.Error(), "default_transaction_read_only") {
		t.Errorf("Ping() error = %v, want storage_unavailable that names default_transaction_read_only", err)
	}
}
