package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/yufu-auth/yufu/pkg/audit"
)

// LockCutoffs is the advisory lock for taking cutoff ids.
const (
	LockCutoffs     = lockCutoffs
	LockServiceKeys = lockServiceKeys
	LockPersons     = lockPersons
)

// Statements returns every statement of the package.
func Statements() []string { return statements }

// Translate exports translate.
func Translate(ctx context.Context, op string, err error) error { return translate(ctx, op, err) }

// SetCountTimeout sets the timeout for counting sessions.
func SetCountTimeout(s *Store, d time.Duration) { s.countTimeout = d }

// AdminQueries are admins' searches for persons and identities, each with the condition
// that an index must serve.
var AdminQueries = []struct{ SQL, Cond string }{
	{personsByExternalIDSQL, "external_id = "},
	{personsByPhoneSQL, "phone = "},
	{personsByNameSQL, "name >= "},
	{personsAllSQL, "id > "},
	{identitiesByOpenIDSQL, "subject = "},
	{identitiesByUnionIDSQL, "unionid = "},
	{identitiesByPersonSQL, "person_id = "},
	{identitiesAllSQL, "uuid > "},
}

// AuditSQL exports auditSQL.
func AuditSQL(q *audit.Query) (string, []any) { return auditSQL(q) }

// Shows returns, for each kind of permanent connection, a function that reads a setting:
// the pool's, the followers', and the listening one.
func Shows(s *Store) map[string]func(ctx context.Context, name string) (string, error) {
	shows := map[string]func(ctx context.Context, name string) (string, error){}
	for kind, pool := range map[string]*pgxpool.Pool{"pool": s.pool.Pool, "followers": s.follow.Pool} {
		shows[kind] = func(ctx context.Context, name string) (v string, err error) {
			err = pool.QueryRow(ctx, "show "+name).Scan(&v)
			return v, err
		}
	}
	shows["listener"] = func(ctx context.Context, name string) (v string, err error) {
		conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
		if err != nil {
			return "", err
		}
		defer closeConn(ctx, conn)
		err = conn.QueryRow(ctx, "show "+name).Scan(&v)
		return v, err
	}
	return shows
}

// SetSlotWait sets the timeout for a free connection.
func SetSlotWait(s *Store, d time.Duration) { s.pool.wait = d }

// EstimateByShard is the estimate of live sessions on distributed tables.
func EstimateByShard(ctx context.Context, s *Store, apps []string, now time.Time) int {
	return s.estimateByShard(ctx, apps, now)
}

// TableKind returns what kind of tables the store has found.
func TableKind(ctx context.Context, s *Store) (string, error) {
	kind, err := s.tableKind(ctx)
	return string(kind), err
}
