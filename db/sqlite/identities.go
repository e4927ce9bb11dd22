package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/session"
)

// identityColumns are the columns of identities i that scanIdentity scans.
const identityColumns = `
  i.uuid, i.appid, i.subject_kind, case when i.erased_at is null then i.subject else '' end, coalesce(i.unionid, ''), i.person_id,
  i.disabled_at is not null, i.person_disabled_at is not null,
  i.bound_at, coalesce(i.bound_by, ''), i.created_at, i.last_login_at, i.erased_at`

func scanIdentity(row interface{ Scan(...any) error }) (person.IdentityRecord, error) {
	var (
		i      person.IdentityRecord
		person uuid.NullUUID
	)
	err := row.Scan(&i.UUID, &i.AppID, &i.SubjectKind, &i.Subject, &i.UnionID, &person, &i.Disabled, &i.PersonDisabled,
		into(&i.BoundAt), &i.BoundBy, into(&i.CreatedAt), into(&i.LastLoginAt), into(&i.ErasedAt))
	i.Person = person.UUID
	return i, err
}

// appsOrNull turns nil, which means all apps, into NULL.
func appsOrNull(apps []string) any {
	if apps == nil {
		return nil
	}
	return jsonList(apps)
}

var identitySQL = statement(`
select` + identityColumns + `
from identities i where i.uuid = ?1 and (?2 is null or i.appid in (select value from json_each(?2)))`)

// identity reads one identity of the apps, or returns [auth.NotFound].
func identity(ctx context.Context, q querier, id uuid.UUID, apps []string) (person.IdentityRecord, error) {
	i, err := scanIdentity(q.QueryRowContext(ctx, identitySQL, id, appsOrNull(apps)))
	if errors.Is(err, sql.ErrNoRows) {
		return person.IdentityRecord{}, auth.NotFound
	}
	return i, err
}

// Identity implements [person.Store].
func (s *Store) Identity(ctx context.Context, id uuid.UUID, apps []string) (person.IdentityRecord, error) {
	i, err := identity(ctx, s.r, id, apps)
	if err != nil {
		return person.IdentityRecord{}, translate(ctx, "Identity", err)
	}
	return i, nil
}

// Identities are searched by account (through the index that every app's accounts
// have), by unionid, by person, or without a condition. Each search is a statement of
// its own.
var (
	identitiesByOpenIDSQL  = statement(identitiesSQL(`apps a join identities i on i.appid = a.appid and i.subject_kind = 'openid' and i.subject = ?4`, `true`))
	identitiesByUnionIDSQL = statement(identitiesSQL(`identities i`, `i.unionid = ?5`))
	identitiesByPersonSQL  = statement(identitiesSQL(`identities i`, `i.person_id = ?6`))
	identitiesAllSQL       = statement(identitiesSQL(`identities i`, `true`))
)

func identitiesSQL(from, by string) string {
	return `
select` + identityColumns + `
from ` + from + `
where i.uuid > ?1 and ` + by + ` and (?3 is null or i.appid in (select value from json_each(?3)))
  and (?4 is null or i.subject_kind = 'openid' and i.subject = ?4 and i.erased_at is null) and (?5 is null or i.unionid = ?5)
  and (?6 is null or i.person_id = ?6) and (?7 is null or i.appid = ?7)
order by i.uuid limit ?2`
}

// Identities implements [person.Store].
func (s *Store) Identities(ctx context.Context, q person.IdentityQuery) ([]person.IdentityRecord, error) {
	query := identitiesAllSQL
	switch {
	case q.OpenID != "":
		query = identitiesByOpenIDSQL
	case q.UnionID != "":
		query = identitiesByUnionIDSQL
	case q.Person != uuid.Nil:
		query = identitiesByPersonSQL
	}
	rows, err := s.r.QueryContext(ctx, query, q.After, q.Limit, appsOrNull(q.Apps), textOrNull(q.OpenID), textOrNull(q.UnionID),
		uuidOrNull(q.Person), textOrNull(q.AppID))
	if err != nil {
		return nil, translate(ctx, "Identities", err)
	}
	found, err := collect(rows, func(rows *sql.Rows) (person.IdentityRecord, error) { return scanIdentity(rows) })
	return found, translate(ctx, "Identities", err)
}

var identitySessionsSQL = statement(`
select` + stateColumns + sessionColumns + stateTables + `
where sessions.identity_uuid = ?1 and (?2 is null or sessions.id < ?2)
order by sessions.id desc limit ?3`)

// IdentitySessions implements [person.Store].
func (s *Store) IdentitySessions(ctx context.Context, id uuid.UUID, apps []string, before uuid.UUID, limit int) ([]session.State, error) {
	if _, err := identity(ctx, s.r, id, apps); err != nil {
		return nil, translate(ctx, "IdentitySessions", err)
	}
	rows, err := s.r.QueryContext(ctx, identitySessionsSQL, id, uuidOrNull(before), limit)
	if err != nil {
		return nil, translate(ctx, "IdentitySessions", err)
	}
	all, err := collect(rows, func(rows *sql.Rows) (session.State, error) { return scanState(rows.Scan) })
	return all, translate(ctx, "IdentitySessions", err)
}

// DisableIdentity implements [person.Store].
func (s *Store) DisableIdentity(ctx context.Context, c person.IdentityChange) (person.IdentityRecord, error) {
	return s.switchIdentity(ctx, "DisableIdentity", true, &c)
}

// EnableIdentity implements [person.Store].
func (s *Store) EnableIdentity(ctx context.Context, c person.IdentityChange) (person.IdentityRecord, error) {
	return s.switchIdentity(ctx, "EnableIdentity", false, &c)
}

var switchIdentitySQL = statement(`update identities set disabled_at = ?2 where uuid = ?1`)

func (s *Store) switchIdentity(ctx context.Context, op string, disable bool, c *person.IdentityChange) (person.IdentityRecord, error) {
	return s.changeIdentity(ctx, op, c, func(tx *writeTx, i *person.IdentityRecord) error {
		if i.Disabled == disable {
			return nil
		}
		var (
			disabledAt time.Time
			detail     map[string]any
		)
		if disable {
			disabledAt = c.Now
			live, err := liveOf(ctx, tx, c.Now, i.UUID)
			if err != nil {
				return err
			}
			detail = map[string]any{"sessions": live}
		}
		i.Disabled = disable
		if _, err := tx.ExecContext(ctx, switchIdentitySQL, i.UUID, micros(disabledAt)); err != nil {
			return err
		}
		if err := writeAudit(ctx, tx, c.Audit(i, detail)); err != nil || !disable {
			return err
		}
		return endAll(ctx, tx, i.UUID, auth.EndIdentityDisabled, c.Now)
	})
}

// changeIdentity calls change for an identity that is not erased, and returns the
// identity as change leaves it.
func (s *Store) changeIdentity(ctx context.Context, op string, c *person.IdentityChange, change func(*writeTx, *person.IdentityRecord) error) (person.IdentityRecord, error) {
	var i person.IdentityRecord
	err := s.inTx(ctx, op, func(tx *writeTx) error {
		var err error
		if i, err = identity(ctx, tx, c.Identity, c.Apps); err != nil {
			return err
		}
		if !i.ErasedAt.IsZero() {
			return auth.NotFound
		}
		return change(tx, &i)
	})
	if err != nil {
		return person.IdentityRecord{}, err
	}
	return i, nil
}

// BindIdentity implements [person.Store].
func (s *Store) BindIdentity(ctx context.Context, c person.IdentityChange) (person.IdentityRecord, error) {
	return s.changeIdentity(ctx, "BindIdentity", &c, func(tx *writeTx, i *person.IdentityRecord) error {
		var (
			p        auth.Person
			disabled bool
		)
		err := tx.QueryRowContext(ctx, targetPersonSQL, c.Person).Scan(&p.ID, &p.ExternalID, &p.Name, &disabled)
		if errors.Is(err, sql.ErrNoRows) {
			return auth.BindingNoMatch
		}
		if err != nil {
			return err
		}
		others, err := othersOf(ctx, tx, p.ID, i.AppID, i.UUID)
		if err != nil {
			return err
		}
		replaced, err := c.DecideBind(i, disabled, others)
		if err != nil || i.Person == p.ID {
			return err
		}
		for _, id := range replaced {
			if err := writeAudit(ctx, tx, c.ReplacedEvent(i, id)); err != nil {
				return err
			}
			if err := detach(ctx, tx, id); err != nil {
				return err
			}
			if err := endAll(ctx, tx, id, auth.EndReplaced, c.Now); err != nil {
				return err
			}
		}
		if err := writeAudit(ctx, tx, c.BoundEvent(i)); err != nil {
			return err
		}
		if err := attach(ctx, tx, i.UUID, p.ID, person.BoundByAdmin, c.Now); err != nil {
			return err
		}
		i.Person, i.PersonDisabled, i.BoundBy, i.BoundAt = p.ID, false, person.BoundByAdmin, auth.StoredTime(c.Now)
		return raise(ctx, tx, i.UUID, p.ID, c.Now)
	})
}

// UnbindIdentity implements [person.Store].
func (s *Store) UnbindIdentity(ctx context.Context, c person.IdentityChange) (person.IdentityRecord, error) {
	return s.changeIdentity(ctx, "UnbindIdentity", &c, func(tx *writeTx, i *person.IdentityRecord) error {
		if i.Person == uuid.Nil {
			return nil
		}
		if err := writeAudit(ctx, tx, c.Audit(i, nil).About(i.Person)); err != nil {
			return err
		}
		if err := detach(ctx, tx, i.UUID); err != nil {
			return err
		}
		i.Person, i.PersonDisabled, i.BoundBy, i.BoundAt = uuid.Nil, false, "", time.Time{}
		return raise(ctx, tx, i.UUID, uuid.Nil, c.Now)
	})
}
