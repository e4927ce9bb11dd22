package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/shard"
)

// identityColumns are the columns of identities i that scanIdentity scans.
const identityColumns = `
  i.uuid, i.appid, i.subject_kind, case when i.erased_at is null then i.subject else '' end, coalesce(i.unionid, ''), i.person_id,
  i.disabled_at is not null, i.person_disabled_at is not null,
  i.bound_at, coalesce(i.bound_by, ''), i.created_at, i.last_login_at, i.erased_at`

func scanIdentity(row pgx.Row) (person.IdentityRecord, error) {
	var (
		i             person.IdentityRecord
		person        *uuid.UUID
		bound, erased *time.Time
	)
	err := row.Scan(&i.UUID, &i.AppID, &i.SubjectKind, &i.Subject, &i.UnionID, &person, &i.Disabled, &i.PersonDisabled,
		&bound, &i.BoundBy, &i.CreatedAt, &i.LastLoginAt, &erased)
	if person != nil {
		i.Person = *person
	}
	i.BoundAt, i.ErasedAt = timeOf(bound), timeOf(erased)
	i.CreatedAt, i.LastLoginAt = i.CreatedAt.UTC(), i.LastLoginAt.UTC()
	return i, err
}

const identitySQL = `
select` + identityColumns + `
from identities i where i.uuid = $1 and i.shard = $3 and ($2::text[] is null or i.appid = any ($2))`

var (
	identityReadSQL   = statement(identitySQL)
	identityLockedSQL = statement(identitySQL + ` for update`)
)

// identity reads one identity of the apps, or returns [auth.NotFound].
func identity(ctx context.Context, q querier, sql string, id uuid.UUID, apps []string) (person.IdentityRecord, error) {
	i, err := scanIdentity(q.QueryRow(ctx, sql, id, apps, shard.Of(id)))
	if errors.Is(err, pgx.ErrNoRows) {
		return person.IdentityRecord{}, auth.NotFound
	}
	return i, err
}

// Identity implements [person.Store].
func (s *Store) Identity(ctx context.Context, id uuid.UUID, apps []string) (person.IdentityRecord, error) {
	i, err := identity(ctx, s.pool, identityReadSQL, id, apps)
	if err != nil {
		return person.IdentityRecord{}, s.fail(ctx, "Identity", err)
	}
	return i, nil
}

// Identities are searched by account (through the index that every app's accounts
// have), by unionid, by person, or without a condition. Each search is a statement of
// its own.
var (
	identitiesByOpenIDSQL  = statement(identitiesSQL(`apps a join identities i on i.appid = a.appid and i.subject_kind = 'openid' and i.subject = $4`) + identitiesEndSQL)
	identitiesByUnionIDSQL = statement(identitiesSQL(`identities i`) + ` and i.unionid = $5` + identitiesEndSQL)
	identitiesByPersonSQL  = statement(identitiesSQL(`identities i`) + ` and i.person_id = $6` + identitiesEndSQL)
	identitiesAllSQL       = statement(identitiesSQL(`identities i`) + identitiesEndSQL)
)

const identitiesEndSQL = `
order by i.uuid limit $2`

func identitiesSQL(from string) string {
	return `
select` + identityColumns + `
from ` + from + `
where i.uuid > $1 and ($3::text[] is null or i.appid = any ($3))
  and ($4::text is null or i.subject_kind = 'openid' and i.subject = $4 and i.erased_at is null) and ($5::text is null or i.unionid = $5)
  and ($6::uuid is null or i.person_id = $6) and ($7::text is null or i.appid = $7)`
}

// Identities implements [person.Store].
func (s *Store) Identities(ctx context.Context, q person.IdentityQuery) ([]person.IdentityRecord, error) {
	sql := identitiesAllSQL
	switch {
	case q.OpenID != "":
		sql = identitiesByOpenIDSQL
	case q.UnionID != "":
		sql = identitiesByUnionIDSQL
	case q.Person != uuid.Nil:
		sql = identitiesByPersonSQL
	}
	rows, err := s.pool.Query(ctx, sql, q.After, q.Limit, q.Apps, textOrNull(q.OpenID), textOrNull(q.UnionID),
		uuidOrNull(q.Person), textOrNull(q.AppID))
	if err != nil {
		return nil, s.fail(ctx, "Identities", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (person.IdentityRecord, error) { return scanIdentity(row) })
	return found, s.fail(ctx, "Identities", err)
}

var identitySessionsSQL = statement(`
select` + stateColumns + sessionColumns + stateTables + `
where s.identity_uuid = $1 and s.shard = $4 and ($2::uuid is null or s.id < $2)
order by s.id desc limit $3`)

// IdentitySessions implements [person.Store].
func (s *Store) IdentitySessions(ctx context.Context, id uuid.UUID, apps []string, before uuid.UUID, limit int) ([]session.State, error) {
	all, err := s.identitySessions(ctx, id, apps, before, limit)
	return all, s.fail(ctx, "IdentitySessions", err)
}

func (s *Store) identitySessions(ctx context.Context, id uuid.UUID, apps []string, before uuid.UUID, limit int) ([]session.State, error) {
	if _, err := identity(ctx, s.pool, identityReadSQL, id, apps); err != nil {
		return nil, err
	}
	rows, err := s.pool.Query(ctx, identitySessionsSQL, id, uuidOrNull(before), limit, shard.Of(id))
	if err != nil {
		return nil, err
	}
	read, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*stateRow, error) {
		var r stateRow
		return &r, row.Scan(r.targets()...)
	})
	if err != nil {
		return nil, err
	}
	all := make([]session.State, len(read))
	for i, r := range read {
		if all[i], err = r.state(ctx, s.pool); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// DisableIdentity implements [person.Store].
func (s *Store) DisableIdentity(ctx context.Context, c person.IdentityChange) (person.IdentityRecord, error) {
	return s.switchIdentity(ctx, "DisableIdentity", true, &c)
}

// EnableIdentity implements [person.Store].
func (s *Store) EnableIdentity(ctx context.Context, c person.IdentityChange) (person.IdentityRecord, error) {
	return s.switchIdentity(ctx, "EnableIdentity", false, &c)
}

var switchIdentitySQL = statement(`update identities set disabled_at = $2 where uuid = $1 and shard = $3`)

func (s *Store) switchIdentity(ctx context.Context, op string, disable bool, c *person.IdentityChange) (person.IdentityRecord, error) {
	return s.changeIdentity(ctx, op, c, func(tx *transaction, i *person.IdentityRecord) error {
		if i.Disabled == disable {
			return nil
		}
		var (
			disabledAt time.Time
			ending     = &sessionsToEnd{}
			detail     map[string]any
		)
		if disable {
			disabledAt = c.Now
			var err error
			if ending, err = lockSessionsToEnd(ctx, tx, c.Now, i.UUID); err != nil {
				return err
			}
			detail = map[string]any{"sessions": ending.live}
		}
		i.Disabled = disable
		var b pgx.Batch
		b.Queue(switchIdentitySQL, i.UUID, timeOrNull(disabledAt), shard.Of(i.UUID))
		if err := queueAudit(&b, c.Audit(i, detail)); err != nil {
			return err
		}
		if len(ending.sessions) > 0 {
			queueEnd(&b, auth.EndIdentityDisabled, c.Now, ending.sessions...)
		}
		return tx.commit(ctx, &b)
	})
}

// changeIdentity locks an identity that is not erased, calls change, and returns the
// identity as change leaves it.
func (s *Store) changeIdentity(ctx context.Context, op string, c *person.IdentityChange, change func(*transaction, *person.IdentityRecord) error) (person.IdentityRecord, error) {
	var i person.IdentityRecord
	err := s.inTx(ctx, op, func(tx *transaction) error {
		var err error
		if i, err = identity(ctx, tx, identityLockedSQL, c.Identity, c.Apps); err != nil {
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

// BindIdentity implements [person.Store]. It locks the person first.
func (s *Store) BindIdentity(ctx context.Context, c person.IdentityChange) (person.IdentityRecord, error) {
	var i person.IdentityRecord
	err := s.inTx(ctx, "BindIdentity", func(tx *transaction) error {
		// An identity never changes its app.
		var err error
		if i, err = identity(ctx, tx, identityReadSQL, c.Identity, c.Apps); err != nil {
			return err
		}
		var (
			p        auth.Person
			disabled bool
		)
		err = tx.QueryRow(ctx, lockTargetPersonSQL, c.Person).Scan(&p.ID, &p.ExternalID, &p.Name, &disabled)
		if errors.Is(err, pgx.ErrNoRows) {
			return auth.BindingNoMatch
		}
		if err != nil {
			return err
		}
		locked, err := lockAffected(ctx, tx, i.UUID, p.ID, i.AppID, c.Second, c.Now)
		if err != nil {
			return err
		}
		if i, err = identity(ctx, tx, identityReadSQL, c.Identity, c.Apps); err != nil {
			return err
		}
		replaced, err := c.DecideBind(&i, disabled, locked.others)
		if err != nil || i.Person == p.ID {
			return err
		}
		var b pgx.Batch
		for _, id := range replaced {
			if err := queueAudit(&b, c.ReplacedEvent(&i, id)); err != nil {
				return err
			}
		}
		if err := queueAudit(&b, c.BoundEvent(&i)); err != nil {
			return err
		}
		queueDetach(&b, replaced...)
		queueAttach(&b, i.UUID, p.ID, person.BoundByAdmin, c.Now)
		cutoffs := append(locked.queueEnd(&b, replaced, auth.EndReplaced, c.Now), locked.queueRaise(&b, p.ID, c.Now)...)
		if len(cutoffs) > 0 {
			queueCutoffs(&b, c.Now, cutoffs...)
		}
		i.Person, i.PersonDisabled, i.BoundBy, i.BoundAt = p.ID, false, person.BoundByAdmin, auth.StoredTime(c.Now)
		return tx.commit(ctx, &b)
	})
	if err != nil {
		return person.IdentityRecord{}, err
	}
	return i, nil
}

// UnbindIdentity implements [person.Store].
func (s *Store) UnbindIdentity(ctx context.Context, c person.IdentityChange) (person.IdentityRecord, error) {
	return s.changeIdentity(ctx, "UnbindIdentity", &c, func(tx *transaction, i *person.IdentityRecord) error {
		if i.Person == uuid.Nil {
			return nil
		}
		locked, err := lockAffected(ctx, tx, i.UUID, uuid.Nil, i.AppID, auth.SecondJoins, c.Now)
		if err != nil {
			return err
		}
		var b pgx.Batch
		if err := queueAudit(&b, c.Audit(i, nil).About(i.Person)); err != nil {
			return err
		}
		queueDetach(&b, i.UUID)
		if cutoffs := locked.queueRaise(&b, uuid.Nil, c.Now); len(cutoffs) > 0 {
			queueCutoffs(&b, c.Now, cutoffs...)
		}
		i.Person, i.PersonDisabled, i.BoundBy, i.BoundAt = uuid.Nil, false, "", time.Time{}
		return tx.commit(ctx, &b)
	})
}
