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

// A log-in consists of these two statements in one transaction and one round trip.
//
// The first always writes the identity row. So it waits for a ban, a binding, an
// unbinding or another log-in of the account, and makes them wait until the commit.
// The second starts after that wait, with its own snapshot, and so reads the status,
// the person and the sessions that the others committed. A single statement would
// read what was there before the wait.
var (
	writeIdentitySQL = statement(`
insert into identities as i (uuid, shard, appid, subject_kind, subject, unionid, sealed_session_key, created_at, last_login_at)
select $2, $8, a.appid, $3, $4, $5, $6, $7, $7 from apps a where a.appid = $1 and a.disabled_at is null
on conflict (appid, subject_kind, subject, shard) do update
set unionid = coalesce(excluded.unionid, i.unionid),
    sealed_session_key = excluded.sealed_session_key,
    last_login_at = excluded.last_login_at`)

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
	// No BEGIN is needed: the statements of one batch are one transaction.
	var b pgx.Batch
	b.Queue(writeIdentitySQL, x.AppID, x.NewIdentity, x.Account.SubjectKind, x.Account.Subject, textOrNull(x.Account.UnionID), x.SealedSessionKey,
		auth.StoredTime(x.Now), shard.Of(x.NewIdentity))
	l := queueLogin(&b, &x, x.MaxSessions)
	err := s.write(ctx, func(c *pgxpool.Conn) error { return c.SendBatch(ctx, &b).Close() })
	if err != nil {
		return session.Granted{}, err
	}
	if err := l.refusal(); err != nil {
		return session.Granted{}, err
	}
	if l.tooMany {
		return s.replace(ctx, x, *l.identity)
	}
	return l.grant(ctx, s.pool)
}

// surplusSQL locks the sessions that a new session ends.
var surplusSQL = statement(`
select id from sessions where shard = $5 and id in (
  select s.id from sessions s join apps a on a.appid = s.appid
  where s.identity_uuid = $2 and s.shard = $5 and s.id <> $3 and` + liveSQL + `
  order by s.started_at desc, s.id desc offset $4)
order by id for update`)

// replace starts a session for an identity that is at its session limit, and ends the
// surplus.
func (s *Store) replace(ctx context.Context, x session.ExchangeParams, identity uuid.UUID) (session.Granted, error) {
	var g session.Granted
	err := s.inTx(ctx, "Exchange", func(tx *transaction) error {
		var (
			begin, end pgx.Batch
			surplus    []uuid.UUID
		)
		// Meanwhile another call may have disabled the account or ended sessions.
		begin.Queue(lockIdentitySQL, identity, shard.Of(identity))
		l := queueLogin(&begin, &x, 0)
		begin.Queue(surplusSQL, auth.StoredTime(x.Now), identity, x.NewSession, x.MaxSessions-1, shard.Of(identity)).
			Query(func(rows pgx.Rows) (err error) {
				surplus, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
				return err
			})
		if err := run(ctx, tx, &begin); err != nil {
			return err
		}
		if err := l.refusal(); err != nil {
			return err
		}
		var err error
		if g, err = l.grant(ctx, tx); err != nil || len(surplus) == 0 {
			return err
		}
		for _, id := range surplus {
			if err := queueAudit(&end, x.LimitEvent(identity, id)); err != nil {
				return err
			}
		}
		queueEnd(&end, auth.EndLimit, x.Now, surplus...)
		g.Ended = len(surplus)
		return tx.commit(ctx, &end)
	})
	return g, err
}

// login is the result of startSessionSQL. No row means that the app does not exist. If
// there is a refusal or too many sessions, no session was started.
type login struct {
	row                                            auth.Session
	appDisabled, disabled, personDisabled, tooMany bool
	audiences                                      []string
	signingAlg                                     string
	identity, person                               *uuid.UUID
	externalID, name                               *string
	unknown, omit                                  bool
}

// queueLogin adds startSessionSQL to the batch. A limit of 0 means no limit. The login
// is filled when the batch has run.
func queueLogin(b *pgx.Batch, x *session.ExchangeParams, limit int) *login {
	l := &login{row: x.Session()}
	row := &l.row
	b.Queue(startSessionSQL, row.StartedAt, x.AppID, x.Account.Subject, limit, row.ID, row.Device,
		row.Ver, row.Generation, row.IdleExpiresAt, row.ExpiresAt, x.Account.SubjectKind, shard.Of(row.ID)).
		QueryRow(func(r pgx.Row) error {
			err := r.Scan(&l.appDisabled, &l.disabled, &l.personDisabled, &l.tooMany,
				&row.Epoch, &l.audiences, &l.signingAlg, &l.omit, &l.identity, &l.person, &l.externalID, &l.name)
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
