package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	pgxuuid "github.com/vgarvardt/pgx-google-uuid/v5"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// Defaults for settings that the connection string does not give.
const (
	defaultMaxConns       = 20
	defaultConnectTimeout = 5 * time.Second
	// statementTimeout bounds a statement, including its waits for locks, if the
	// caller's context does not.
	statementTimeout = 30 * time.Second
	// idleInTransaction releases the locks of a replica that vanished during a
	// transaction.
	idleInTransaction = 30 * time.Second
	// rollbackTimeout bounds a roll-back. The roll-back runs even if the caller's
	// context is done, so that the connection can be returned to the pool.
	rollbackTimeout = 5 * time.Second
)

// Advisory locks. A database belongs to one Yufu, so small numbers would do. The
// prefix avoids collisions with other programs that use the database.
const (
	lockPrefix      int64 = 0x79756675 << 16 // "yufu"
	lockCutoffs           = lockPrefix | 1
	lockKeys              = lockPrefix | 2
	lockMigrate           = lockPrefix | 3
	lockPersons           = lockPrefix | 4
	lockServiceKeys       = lockPrefix | 5
)

// advisoryLockSQL takes an advisory lock until the transaction ends.
var advisoryLockSQL = statement(`select pg_advisory_xact_lock($1)`)

// Store is a PostgreSQL database. It is safe for concurrent use.
type Store struct {
	pool *pool
	// follow is only for [Store.Cutoffs], [Store.Keys] and [Store.KeysVersion].
	follow *pool
	// writing limits how many connections of pool may write at once.
	writing chan struct{}
	// timeline changes when the server refuses to read a part of it.
	timeline   atomic.Pointer[timelineQueries]
	comparison comparison
	// known is the server that the connections lead to, and tables what kind of tables it
	// has: see [Store.tableKind].
	known  known
	tables atomic.Pointer[tableKind]
	// resets counts how often all connections were replaced.
	resets atomic.Int64
	// target is the server for new connections.
	target atomic.Pointer[pgx.ConnConfig]
	opts   []Option
	// countTimeout is the constant of that name; tests change it.
	countTimeout time.Duration
}

// Option changes how [Open] connects.
type Option func(*pgxpool.Config)

// WithTracer passes every query, batch and connection attempt to the tracer, as far
// as it implements pgx's tracer interfaces.
func WithTracer(t pgx.QueryTracer) Option {
	return func(c *pgxpool.Config) { c.ConnConfig.Tracer = t }
}

// Open returns the database that dsn names. dsn is a postgres:// URL or a key=value
// string in pgx's syntax; several hosts and target_session_attrs are supported.
// It can set pool_max_conns (20 by default), connect_timeout (5 s) and
// statement_timeout (30 s). Following the cutoffs takes two more connections.
//
// Open does not connect: connections are made when they are needed. Use
// [Store.Ping] to detect a database that is down.
//
// Errors: [SettingError] if dsn sets another session setting that Yufu pins, or has
// an invalid value of a parameter. The error of a dsn that cannot be parsed quotes
// nothing of it but the name of a file that cannot be read.
func Open(ctx context.Context, dsn string, opts ...Option) (*Store, error) {
	cfg, err := configure(dsn, opts)
	if err != nil {
		return nil, err
	}
	s := &Store{writing: make(chan struct{}, writeSlots(cfg.MaxConns)), countTimeout: countTimeout}
	s.timeline.Store(fullTimeline)
	s.opts = opts
	s.target.Store(cfg.ConnConfig)
	cfg.ShouldPing = shouldPing
	cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		pgxuuid.Register(conn.TypeMap()) // else pgx writes and parses UUIDs as text
		return s.recognise(ctx, conn)
	}
	// A follower runs one query at a time and needs one connection. The other places
	// are for abandoned connections, which pgx may count for another 15 s.
	cfgCopy := cfg.Copy()
	cfgCopy.MinConns, cfgCopy.MinIdleConns, cfgCopy.MaxConns = 0, 0, 8
	// No ping before use: the query itself detects a broken connection.
	cfgCopy.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	// The pool may make connections as soon as it exists.
	s.known.Lock()
	defer s.known.Unlock()
	if s.follow, err = newPool(ctx, cfgCopy, &s.target); err != nil {
		return nil, fmt.Errorf("postgres: open: %w", err)
	}
	if s.pool, err = newPool(ctx, cfg, &s.target); err != nil {
		s.follow.Close()
		return nil, fmt.Errorf("postgres: open: %w", err)
	}
	s.follow.spare = s.pool
	return s, nil
}

// configure parses a connection string.
func configure(dsn string, opts []Option) (*pgxpool.Config, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	var missing *fs.PathError
	if errors.As(err, &missing) {
		return nil, fmt.Errorf("postgres: the connection needs a file that cannot be read (sslrootcert, sslcert, sslkey, servicefile or their variables): %w", missing)
	}
	if err != nil {
		if wrong := wrongParameter(dsn); wrong != nil {
			return nil, wrong
		}
		// Neither pgx nor net/url guarantees that a password stays out of its error
		// when a malformed string is ambiguous. This text has no example password
		// either: a log that blanks passwords in URLs would blank it.
		return nil, errors.New("postgres: the database URL or a certificate that it names cannot be parsed; " +
			"want postgres://USER@HOST:PORT/DATABASE, with a colon and the password after USER, special characters percent-encoded")
	}
	if !strings.Contains(dsn, "pool_max_conns") {
		cfg.MaxConns = defaultMaxConns
	}
	cfg.MaxConnLifetime = 30 * time.Minute
	cfg.MaxConnLifetimeJitter = 5 * time.Minute
	cfg.MaxConnIdleTime = 5 * time.Minute
	cfg.HealthCheckPeriod = 30 * time.Second
	cfg.PingTimeout = 2 * time.Second
	if cfg.ConnConfig.ConnectTimeout == 0 || !strings.Contains(dsn, "connect_timeout") {
		cfg.ConnConfig.ConnectTimeout = defaultConnectTimeout
	}
	timeout, err := checkURL(cfg)
	if err != nil {
		return nil, err
	}
	cfg.ConnConfig.OnNotice = noteUnconfirmed
	pinSettings(&cfg.ConnConfig.Config, timeout, fmt.Sprint(idleInTransaction.Milliseconds()))
	for _, o := range opts {
		o(cfg)
	}
	return cfg, nil
}

// Reconnect replaces all connections by connections to dsn, for example with
// another password or to another server of the same deployment. Pool parameters in
// dsn, such as pool_max_conns, take effect only with a new [Open].
//
// Errors: those of [Open]; that of a connection that cannot be made or leads to
// another deployment. After an error nothing has changed.
func (s *Store) Reconnect(ctx context.Context, dsn string) error {
	cfg, err := configure(dsn, s.opts)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, cfg.ConnConfig)
	if err != nil {
		return s.fail(ctx, "Reconnect", err)
	}
	defer closeConn(ctx, conn)
	if err := s.recognise(ctx, conn); err != nil {
		return err
	}
	s.target.Store(cfg.ConnConfig)
	s.reset()
	return nil
}

// Close waits for calls in progress and closes all connections.
func (s *Store) Close() {
	s.follow.Close()
	s.pool.Close()
}

// Stat returns the state of the connection pool, for metrics.
func (s *Store) Stat() *pgxpool.Stat { return s.pool.Stat() }

// statements lists every statement of this package, so that a test can prepare them.
var statements []string

// statement registers a statement. Only the initialisation of package variables
// calls it.
func statement(sql string) string {
	statements = append(statements, sql)
	return sql
}

var pingSQL = statement(`select pg_is_in_recovery() or current_setting('transaction_read_only')::bool`)

var errReadOnly = errors.New("postgres: the database is read-only: the server is a standby, or default_transaction_read_only is on for the server, the database or the role")

// Ping returns nil if the database answers and accepts writes, else
// [auth.StorageUnavailable].
func (s *Store) Ping(ctx context.Context) error {
	var readOnly bool
	if err := s.pool.QueryRow(ctx, pingSQL).Scan(&readOnly); err != nil {
		return s.fail(ctx, "Ping", err)
	}
	if readOnly {
		s.reset()
		return &auth.Error{Code: auth.StorageUnavailable, Err: errReadOnly}
	}
	return nil
}

var nowSQL = statement(`select clock_timestamp()`)

// Now returns the time of the database's clock, in UTC.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	var t time.Time
	if err := s.pool.QueryRow(ctx, nowSQL).Scan(&t); err != nil {
		return time.Time{}, s.fail(ctx, "Now", err)
	}
	return t.UTC(), nil
}

// querier has the methods that a pool and a transaction share.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// timeOrNull, uuidOrNull and textOrNull turn a zero value into NULL.
func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = auth.StoredTime(t)
	return &t
}

func uuidOrNull(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}

func textOrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// timeOf turns NULL into the zero time.
func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}
