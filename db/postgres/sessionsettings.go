package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// pinned are the settings that change the meaning of our statements or the guarantee of
// a commit, with the values that this package needs. Every connection sets them,
// whatever the server, the database, the role or the environment says. The URL must not
// contradict them.
//
// A statement sets them, not parameters at the start of the connection, because a pooler
// in session mode may ignore such parameters.
//
// Other settings do no harm: planner and memory settings change the speed, lc_* and
// extra_float_digits the text of values that no statement formats, log_* the server's
// log. A default of read-only transactions stays in force, since it may fence off a
// server; the store is then unavailable.
var pinned = map[string]string{
	"search_path":                   "public",
	"client_encoding":               "UTF8",
	"timezone":                      "UTC",
	"datestyle":                     "ISO, MDY",
	"intervalstyle":                 "postgres",
	"bytea_output":                  "hex",
	"standard_conforming_strings":   "on",
	"transform_null_equals":         "off",
	"array_nulls":                   "on",
	"row_security":                  "on",
	"exit_on_error":                 "off",
	"default_table_access_method":   "heap", // for tables that migrations create
	"default_transaction_isolation": "read committed",
	// A warning reports that a commit's wait for the standby was cancelled.
	"client_min_messages": "notice",
	// The statement timeout bounds waits. An idle connection waits for its next
	// request or for a notification.
	"lock_timeout":         "0",
	"idle_session_timeout": "0",
	"transaction_timeout":  "0",
	// Of Citus: else a transaction that has read all shards may not write to a reference
	// table.
	"citus.multi_shard_modify_mode": "sequential",
}

// pinSQL sets the pinned settings that the server's version knows, and returns those that
// can only be checked. A commit waits for the disk and for the synchronous standbys. The
// setting remote_apply, which also waits until they have applied it, is kept.
//
// It runs before the search path is pinned, so it names the catalog.
const pinSQL = `
select pg_catalog.current_setting('server_encoding'), pg_catalog.current_setting('session_replication_role'),
  (select pg_catalog.count(pg_catalog.set_config(name, value, false))
   from (select given.name, given.value
     from rows from (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) as given (name, value)
     union all select 'synchronous_commit', case pg_catalog.current_setting('synchronous_commit') when 'remote_apply' then 'remote_apply' else 'on' end
   ) as pinned (name, value)
   where pg_catalog.current_setting(name, true) is not null)`

// SettingError reports a setting that this package does not work with.
type SettingError struct {
	// Name is the PostgreSQL setting or the URL parameter.
	Name string
	// What says what is wrong and what to do.
	What string
}

func (e *SettingError) Error() string { return "postgres: " + e.Name + " " + e.What }

// parameters are the URL parameters whose values pgx checks.
var parameters = []string{
	"sslrootcert", "sslcert", "sslkey", "sslmode", "sslnegotiation", "sslcertmode",
	"target_session_attrs", "channel_binding", "require_auth", "connect_timeout",
	"pool_max_conns", "pool_min_conns", "pool_min_idle_conns", "pool_max_conn_lifetime", "pool_max_conn_lifetime_jitter",
	"pool_max_conn_idle_time", "pool_health_check_period", "pool_ping_timeout",
}

// wrongParameter names the parameter without which the URL would parse, or returns nil.
// The error contains only names of parameters, because an unescaped password cannot be
// recognised.
func wrongParameter(dsn string) error {
	u, err := url.Parse(dsn)
	if err != nil {
		return nil //nolint:nilerr // the caller says what is wrong
	}
	for _, name := range parameters {
		query := u.Query()
		if !query.Has(name) {
			continue
		}
		query.Del(name)
		without := *u
		without.RawQuery = query.Encode()
		if _, err := pgxpool.ParseConfig(without.String()); err != nil {
			continue
		}
		return &SettingError{name, "in the database URL has an invalid value: correct or remove it"}
	}
	return nil
}

// pinSettings makes every connection of cfg pin its settings and check the rest.
// statementTimeout and idleInTransaction are in milliseconds or have a unit; "0" means
// no timeout.
func pinSettings(cfg *pgconn.Config, statementTimeout, idleInTransaction string) {
	names := append(slices.Sorted(maps.Keys(pinned)), "statement_timeout", "idle_in_transaction_session_timeout")
	values := make([]string, len(names))
	for i, name := range names {
		values[i] = pinned[name]
	}
	values[len(values)-2], values[len(values)-1] = statementTimeout, idleInTransaction
	params := [][]byte{textArray(names), textArray(values)}
	cfg.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		r := conn.ExecParams(ctx, pinSQL, params, nil, nil, nil).Read()
		if r.Err != nil {
			return fmt.Errorf("set up the session: %w", r.Err)
		}
		encoding, role := string(r.Rows[0][0]), string(r.Rows[0][1])
		switch {
		case encoding != "UTF8":
			return &SettingError{"server_encoding", "of the database must be UTF8, got " + encoding + ": create the database with encoding 'UTF8' template template0"}
		case role != "origin":
			return &SettingError{"session_replication_role", "must be origin, got " + role + ", which disables foreign keys: reset it for this role and this database"}
		}
		return nil
	}
}

// textArray encodes plain words as a PostgreSQL array.
func textArray(words []string) []byte {
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"` + quote.Replace(w) + `"`)
	}
	return []byte("{" + b.String() + "}")
}

// checkURL rejects settings that a connection string must not set, and removes those
// that [pinSettings] sets. It returns the statement timeout, which the string may set.
func checkURL(cfg *pgxpool.Config) (string, error) {
	if m := cfg.ConnConfig.DefaultQueryExecMode; m != pgx.QueryExecModeCacheStatement || cfg.ConnConfig.StatementCacheCapacity == 0 {
		return "", &SettingError{"default_query_exec_mode and statement_cache_capacity", "must not be set in the database URL: Yufu prepares every statement. Poolers in transaction mode, which need these parameters, are not supported: connect directly or through a pooler in session mode"}
	}
	timeout := fmt.Sprint(statementTimeout.Milliseconds())
	params := cfg.ConnConfig.RuntimeParams
	for given, value := range params {
		name := strings.ToLower(given)
		want, isPinned := pinned[name]
		switch {
		case name == "statement_timeout":
			timeout = value
			delete(params, given)
		case isPinned && strings.EqualFold(value, want):
			delete(params, given)
		case isPinned:
			return "", &SettingError{name, "must not be set in the database URL: remove it, Yufu sets it to " + want}
		case name == "synchronous_commit" || name == "session_replication_role" || name == "idle_in_transaction_session_timeout":
			return "", &SettingError{name, "must not be set in the database URL: remove it, Yufu sets it"}
		case name == "options":
			for _, p := range append(slices.Sorted(maps.Keys(pinned)), "synchronous_commit", "session_replication_role", "statement_timeout", "idle_in_transaction_session_timeout") {
				if strings.Contains(strings.ToLower(value), p) {
					return "", &SettingError{p, "must not be set in the options of the database URL or in PGOPTIONS: remove it, Yufu sets it"}
				}
			}
		}
	}
	if params["application_name"] == "" {
		params["application_name"] = "yufu"
	}
	return timeout, nil
}

const (
	// closeTimeout bounds the orderly close of a connection.
	closeTimeout = time.Second
	// probeTimeout bounds the delivery of a notification from one connection to another.
	probeTimeout = 5 * time.Second
)

// ErrTransactionPooling is returned by [Store.CheckPooling].
var ErrTransactionPooling = errors.New("the pooler between Yufu and PostgreSQL is in transaction mode: set its mode to session (pool_mode=session), or connect directly")

// CheckPooling returns [ErrTransactionPooling] if the database is behind a pooler
// that does not keep one session per client. Prepared statements, session locks and
// LISTEN need one.
//
// A connection is direct if its server process is the one that PostgreSQL announced
// at the start. Behind a pooler, one connection listens and another notifies: an idle
// client of a pooler in transaction mode has no session, so the notification does
// not arrive.
func (s *Store) CheckPooling(ctx context.Context) error {
	listener, err := pgx.ConnectConfig(ctx, s.target.Load().Copy())
	if err != nil {
		return s.fail(ctx, "CheckPooling", err)
	}
	defer closeConn(ctx, listener)
	// The simple protocol: a pooler in transaction mode does not find a prepared
	// statement again.
	r, err := listener.PgConn().Exec(ctx, `select pg_backend_pid()`).ReadAll()
	if err != nil {
		return s.fail(ctx, "CheckPooling", err)
	}
	if string(r[0].Rows[0][0]) == fmt.Sprint(listener.PgConn().PID()) {
		return nil
	}
	notifier, err := pgx.ConnectConfig(ctx, s.target.Load().Copy())
	if err != nil {
		return s.fail(ctx, "CheckPooling", err)
	}
	defer closeConn(ctx, notifier)
	channel := "yufu_probe_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	if _, err := listener.PgConn().Exec(ctx, "listen "+channel).ReadAll(); err != nil {
		return s.fail(ctx, "CheckPooling", err)
	}
	if _, err := notifier.PgConn().Exec(ctx, "notify "+channel).ReadAll(); err != nil {
		return s.fail(ctx, "CheckPooling", err)
	}
	waiting, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	_, err = listener.WaitForNotification(waiting)
	switch {
	case err == nil:
		return nil
	case waiting.Err() != nil && ctx.Err() == nil:
		return fmt.Errorf("postgres: %w", ErrTransactionPooling)
	default:
		return s.fail(ctx, "CheckPooling", err)
	}
}

// closeConn closes a connection in order; its server may be gone.
func closeConn(ctx context.Context, conn *pgx.Conn) {
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = conn.Close(closing)
}
