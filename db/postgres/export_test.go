package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// LockCutoffs is the advisory lock under which cutoff ids are taken.
const (
	LockCutoffs     = lockCutoffs
	LockServiceKeys = lockServiceKeys
	LockPersons     = lockPersons
)

// Statements returns every statement of the package.
func Statements() []string { return statements }

// Translate is the translation of errors.
func Translate(ctx context.Context, op string, err error) error { return translate(ctx, op, err) }

// SetCountTimeout bounds counting sessions.
func SetCountTimeout(s *Store, d time.Duration) { s.countTimeout = d }

// AdminQueries are how admins find persons and identities, each with a condition
// that an index must answer.
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

// Shows returns how to ask for a setting on a connection of each kind that
// lasts: the pool's, the followers', and the one that listens.
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

// SetSlotWait bounds waiting for a connection.
func SetSlotWait(s *Store, d time.Duration) { s.pool.wait = d }
