package postgres

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

// exchangeSQL is the whole log-in. The identity row is written always, so this
// statement waits for whoever is banning, binding or unbinding it, and status
// and person are what the write returned: the values after that wait. A
// statement that only read the identity would take them from its snapshot.
var exchangeSQL = statement(`
with app as (
  select appid, epoch, audiences, disabled_at is not null as disabled
  from apps where appid = $1
), ident as (
  insert into identities as i (uuid, appid, openid, unionid, sealed_session_key, created_at, last_login_at)
  select $2, app.appid, $3, $4, $5, $6, $6 from app where not app.disabled
  on conflict (appid, openid) do update
  set unionid = coalesce(excluded.unionid, i.unionid),
      sealed_session_key = excluded.sealed_session_key,
      last_login_at = excluded.last_login_at
  returning i.uuid, i.person_id, i.disabled_at is not null as disabled,
    i.person_disabled_at is not null as person_disabled
), sess as (
  insert into sessions (id, identity_uuid, appid, device, person_id, ver, epoch, generation,
    rotated_at, started_at, idle_expires_at, expires_at)
  select $7, ident.uuid, app.appid, $8, ident.person_id, $9, app.epoch, $10, $6, $6, $11, $12
  from ident, app where not ident.disabled and not ident.person_disabled
  returning id
)
select app.disabled, app.epoch, app.audiences,
  coalesce(ident.disabled, false), coalesce(ident.person_disabled, false),
  exists (select from sess), ident.uuid, ident.person_id, p.external_id, p.name
from app left join ident on true left join persons p on p.id = ident.person_id`)

// Exchange implements [session.Store].
func (s *Store) Exchange(ctx context.Context, x session.ExchangeParams) (session.Granted, error) {
	g, err := s.exchange(ctx, x)
	if err != nil {
		return session.Granted{}, s.fail(ctx, "Exchange", err)
	}
	return g, nil
}

func (s *Store) exchange(ctx context.Context, x session.ExchangeParams) (session.Granted, error) {
	row := x.Session()
	var (
		appDisabled, disabled, personDisabled, granted bool
		audiences                                      []string
		identity, personID                             *uuid.UUID
		externalID, name                               *string
	)
	err := s.pool.QueryRow(ctx, exchangeSQL, x.AppID, x.NewIdentity, x.OpenID, textOrNull(x.UnionID), x.SealedSessionKey,
		row.StartedAt, row.ID, row.Device, row.Ver, row.Generation, row.IdleExpiresAt, row.ExpiresAt).
		Scan(&appDisabled, &row.Epoch, &audiences, &disabled, &personDisabled,
			&granted, &identity, &personID, &externalID, &name)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return session.Granted{}, auth.AppUnknown
	case err != nil:
		return session.Granted{}, err
	case appDisabled:
		return session.Granted{}, auth.AppDisabled
	case disabled:
		return session.Granted{}, auth.IdentityDisabled
	case personDisabled:
		return session.Granted{}, auth.PersonDisabled
	case !granted || identity == nil:
		return session.Granted{}, errors.New("the statement neither granted nor refused")
	}
	row.Identity = *identity
	row.Person, err = person(ctx, s.pool, personID, externalID, name)
	if err != nil {
		return session.Granted{}, err
	}
	return session.Granted{Session: row, Audiences: list(audiences), Verdict: session.Rotate}, nil
}

// list returns nil for an empty list, so that both stores answer alike.
func list(l []string) []string {
	if len(l) == 0 {
		return nil
	}
	return l
}
