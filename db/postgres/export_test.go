package postgres

import (
	"context"
	"time"
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

// Newest is the number of the newest migration.
func Newest() (int64, error) { return newest() }

// SetCountTimeout bounds counting sessions.
func SetCountTimeout(s *Store, d time.Duration) { s.countTimeout = d }

// AdminQueries are how admins find persons and identities, each with a condition
// that an index must answer.
var AdminQueries = []struct{ SQL, Cond string }{
	{personsByExternalIDSQL, "external_id = "},
	{personsByPhoneSQL, "phone = "},
	{personsByNameSQL, "name >= "},
	{personsAllSQL, "id > "},
	{identitiesByOpenIDSQL, "openid = "},
	{identitiesByUnionIDSQL, "unionid = "},
	{identitiesByPersonSQL, "person_id = "},
	{identitiesAllSQL, "uuid > "},
}
