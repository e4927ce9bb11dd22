package postgres

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/shard"
)

// A log-in consists of these two statements in one transaction and one round trip, unless
// the tables are divided by shard.
//
// The first always writes the identity row. So it waits for a ban, a binding, an
// unbinding or another log-in of the account, and makes them wait until the commit.
// The second starts after that wait, with its own snapshot, and so reads the status,
// the person and the sessions that the others committed. A single statement would
// read what was there before the wait.
var (
	writeIdentitySQL = statement(writeIdentity(`
select $2, $8, a.appid, $3, $4, $5, $6, $7, $7 from apps a where a.appid = $1 and a.disabled_at is null`))

	startSessionSQL = statement(`
with known as (
  select a.epoch, a.audiences, a.signing_alg,` + omitSQL + ` as omit, a.disabled_at is not null as app_disabled,
    i.uuid, i.person_id, i.disabled_at is not null as disabled,
    i.person_disabled_at is not null as person_disabled,
    $4 > 0 and $4 = (select count(*) from (
      select from sessions s where s.identity_uuid = i.uuid and s.shard = $12 and` + liveSQL + ` limit $4) live) as too_many
  from apps a left join identities i on i.appid = a.appid and i.subject_kind = $11 and i.subject = $3 and i.shard = $12
  where a.appid = $2
), started as (
  insert into sessions (id, shard, identity_uuid, appid, device, person_id, ver, epoch, generation,
    rotated_at, started_at, idle_expires_at, expires_at)
  select $5, $12, uuid, $2, $6, person_id, $7, epoch, $8, $1, $1, $9, $10
  from known where uuid is not null and not (app_disabled or disabled or person_disabled or too_many)
)
select app_disabled, disabled, person_disabled, too_many,
  epoch, audiences, signing_alg, omit, uuid, person_id, p.external_id, p.name
from known left join persons p on p.id = person_id`)
)

// writeIdentity returns the statement that writes an identity with the values.
func writeIdentity(values string) string {
	return `
insert into identities as i (uuid, shard, appid, subject_kind, subject, unionid, sealed_session_key, created_at, last_login_at)` + values + `
on conflict (appid, subject_kind, subject, shard) do update
set unionid = coalesce(excluded.unionid, i.unionid),
    sealed_session_key = excluded.sealed_session_key,
    last_login_at = excluded.last_login_at`
}

// These are the log-in on divided tables, and one that may end other sessions. They are
// one transaction with a decision in its middle.
var (
	saveIdentitySQL = statement(writeIdentity(`
values ($2, $8, $1, $3, $4, $5, $6, $7, $7)`))

	loginSQL = statement(`
select a.disabled_at is not null, i.disabled_at is not null, i.person_disabled_at is not null, false,
  a.epoch, a.audiences, a.signing_alg,` + omitSQL + `, i.uuid, i.person_id, p.external_id, p.name
from identities i join apps a on a.appid = i.appid left join persons p on p.id = i.person_id
where i.appid = $1 and i.subject_kind = $2 and i.subject = $3 and i.shard = $4`)

	// surplusSQL locks the sessions that a new session ends.
	surplusSQL = statement(`
select id from sessions where shard = $5 and id in (
  select s.id from sessions s join apps a on a.appid = s.appid join identities i on i.uuid = s.identity_uuid and i.shard = s.shard
  where i.appid = $2 and i.subject_kind = $3 and i.subject = $4 and i.shard = $5 and s.shard = $5 and` + liveSQL + `
  order by s.started_at desc, s.id desc offset $6)
order by id for update`)

	insertSessionSQL = statement(`
insert into sessions (id, shard, identity_uuid, appid, device, person_id, ver, epoch, generation,
  rotated_at, started_at, idle_expires_at, expires_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11, $12)`)
)

// liveSQL selects the sessions s of an app a that are live at the time $1, as
// [session.State.RefreshError] does. The absolute expiry is not checked: the idle
// expiry is never later, and naming both would make the planner use its index.
const liveSQL = ` s.ended_at is null and s.epoch >= a.epoch and s.idle_expires_at > $1`

// Exchange implements [session.Store].
func (s *Store) Exchange(ctx context.Context, x session.ExchangeParams) (session.Granted, error) {
	g, err := s.exchange(ctx, x)
	if err != nil {
		return session.Granted{}, s.fail(ctx, "Exchange", err)
	}
	return g, nil
}

func (s *Store) exchange(ctx context.Context, x session.ExchangeParams) (session.Granted, error) {
	divided, err := s.isDivided(ctx)
	if err != nil {
		return session.Granted{}, err
	}
	if !divided {
		if g, tooMany, err := s.exchangeInOne(ctx, &x); err != nil || !tooMany {
			return g, err
		}
	}
	return s.exchangeInTwo(ctx, &x)
}

// exchangeInOne logs in with one round trip, unless the identity is at its session limit.
// No BEGIN is needed: the statements of one batch are one transaction.
func (s *Store) exchangeInOne(ctx context.Context, x *session.ExchangeParams) (g session.Granted, tooMany bool, err error) {
	var b pgx.Batch
	row := x.Session()
	b.Queue(writeIdentitySQL, identityColumnsOf(x)...)
	l := queueLogin(&b, row, startSessionSQL, row.StartedAt, x.AppID, x.Account.Subject, x.MaxSessions, row.ID, row.Device,
		row.Ver, row.Generation, row.IdleExpiresAt, row.ExpiresAt, x.Account.SubjectKind, shard.Of(row.ID))
	err = s.write(ctx, func(c *pgxpool.Conn) error { return c.SendBatch(ctx, &b).Close() })
	if err == nil {
		err = l.refusal()
	}
	if err != nil || l.tooMany {
		return session.Granted{}, l.tooMany, err
	}
	g, err = l.grant(ctx, s.pool)
	return g, false, err
}

// exchangeInTwo logs in and ends the sessions beyond the limit, in two round trips. Each
// of its statements reads or writes one kind of tables, as distributed ones require.
func (s *Store) exchangeInTwo(ctx context.Context, x *session.ExchangeParams) (session.Granted, error) {
	var (
		g       session.Granted
		refused error
	)
	err := s.inTx(ctx, "Exchange", func(tx *transaction) error {
		l, surplus, err := saveIdentity(ctx, tx, x)
		if err != nil {
			return err
		}
		switch refused = l.refusal(); {
		case errors.Is(refused, auth.IdentityDisabled), errors.Is(refused, auth.PersonDisabled):
			return nil // what was written about the identity stays
		case refused != nil:
			return refused
		}
		if g, err = l.grant(ctx, tx); err != nil {
			return err
		}
		var (
			b   pgx.Batch
			row = &g.Session
		)
		b.Queue(insertSessionSQL, row.ID, shard.Of(row.ID), row.Identity, row.AppID, row.Device, l.person, row.Ver, row.Epoch,
			row.Generation, row.StartedAt, row.IdleExpiresAt, row.ExpiresAt)
		for _, ended := range surplus {
			if err := queueAudit(&b, x.LimitEvent(row.Identity, ended.id)); err != nil {
				return err
			}
		}
		if len(surplus) > 0 {
			queueEnd(&b, auth.EndLimit, x.Now, surplus...)
		}
		g.Ended = len(surplus)
		return tx.commit(ctx, &b)
	})
	if err == nil {
		err = refused
	}
	return g, err
}

// saveIdentity writes the identity's row, which locks it, reads what a session needs, and
// locks the sessions that a new session ends.
func saveIdentity(ctx context.Context, tx *transaction, x *session.ExchangeParams) (*login, []sessionOfApp, error) {
	var (
		b       pgx.Batch
		surplus []sessionOfApp
		number  = shard.Of(x.NewIdentity)
	)
	b.Queue(saveIdentitySQL, identityColumnsOf(x)...)
	l := queueLogin(&b, x.Session(), loginSQL, x.AppID, x.Account.SubjectKind, x.Account.Subject, number)
	if x.MaxSessions > 0 {
		b.Queue(surplusSQL, auth.StoredTime(x.Now), x.AppID, x.Account.SubjectKind, x.Account.Subject, number, x.MaxSessions-1).Query(func(rows pgx.Rows) (err error) {
			surplus, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (sessionOfApp, error) {
				ended := sessionOfApp{appID: x.AppID}
				return ended, row.Scan(&ended.id)
			})
			return err
		})
	}
	err := run(ctx, tx, &b)
	if isForeignKeyViolation(err) {
		err = auth.AppUnknown
	}
	return l, surplus, err
}

// identityColumnsOf returns the parameters of the statements that write an identity.
func identityColumnsOf(x *session.ExchangeParams) []any {
	return []any{
		x.AppID, x.NewIdentity, x.Account.SubjectKind, x.Account.Subject, textOrNull(x.Account.UnionID), x.SealedSessionKey,
		auth.StoredTime(x.Now), shard.Of(x.NewIdentity),
	}
}

// login is the result of startSessionSQL or loginSQL. No row means that the app does not
// exist. If there is a refusal or too many sessions, no session was started.
type login struct {
	row                                            auth.Session
	appDisabled, disabled, personDisabled, tooMany bool
	audiences                                      []string
	signingAlg                                     string
	identity, person                               *uuid.UUID
	externalID, name                               *string
	unknown, omit                                  bool
}

// queueLogin adds startSessionSQL or loginSQL to the batch. The login is filled when the
// batch has run.
func queueLogin(b *pgx.Batch, row auth.Session, sql string, args ...any) *login {
	l := &login{row: row}
	b.Queue(sql, args...).QueryRow(func(r pgx.Row) error {
		err := r.Scan(&l.appDisabled, &l.disabled, &l.personDisabled, &l.tooMany,
			&l.row.Epoch, &l.audiences, &l.signingAlg, &l.omit, &l.identity, &l.person, &l.externalID, &l.name)
		if errors.Is(err, pgx.ErrNoRows) {
			l.unknown, err = true, nil
		}
		return err
	})
	return l
}

// refusal returns why no session was started, or nil.
func (l *login) refusal() error {
	switch {
	case l.unknown:
		return auth.AppUnknown
	case l.appDisabled:
		return auth.AppDisabled
	case l.disabled:
		return auth.About(auth.IdentityDisabled, l.subject())
	case l.personDisabled:
		return auth.About(auth.PersonDisabled, l.subject())
	case l.identity == nil:
		return errors.New("the statement neither started a session nor refused the account")
	default:
		return nil
	}
}

// subject is the account that the platform vouched for.
func (l *login) subject() auth.Subject {
	return auth.Subject{AppID: l.row.AppID, Identity: *l.identity}
}

func (l *login) grant(ctx context.Context, q querier) (session.Granted, error) {
	l.row.Identity = *l.identity
	var err error
	l.row.Person, err = boundPerson(ctx, q, l.person, l.externalID, l.name)
	return session.Granted{Session: l.row, Audiences: nilIfEmpty(l.audiences), SigningAlg: l.signingAlg, OmitExternalID: l.omit, Verdict: session.Rotate}, err
}

// nilIfEmpty returns nil for an empty list, so that both stores return the same.
func nilIfEmpty(l []string) []string {
	if len(l) == 0 {
		return nil
	}
	return l
}
