package sqlite

import (
	"context"
	"database/sql"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/shard"
)

var (
	upsertIdentitySQL = statement(`
insert into identities (uuid, appid, subject_kind, subject, unionid, sealed_session_key, created_at, last_login_at, shard)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, ?8)
on conflict (appid, subject_kind, subject, shard) do update
set unionid = coalesce(excluded.unionid, unionid),
    sealed_session_key = excluded.sealed_session_key,
    last_login_at = excluded.last_login_at
returning uuid, disabled_at is not null, person_disabled_at is not null, person_id,
  (select p.external_id from persons p where p.id = person_id),
  (select p.name from persons p where p.id = person_id)`)

	// surplusSQL finds the sessions that a new session ends. A session is live as in
	// [session.State.RefreshError]; the idle expiry is never after the absolute one.
	surplusSQL = statement(`
select id from sessions
where identity_uuid = ?1 and ended_at is null and epoch >= ?2 and idle_expires_at > ?3
order by started_at desc, id desc limit -1 offset ?4`)

	insertSessionSQL = statement(`
insert into sessions (id, shard, identity_uuid, appid, device, person_id, ver, epoch, generation,
  rotated_at, started_at, idle_expires_at, expires_at)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
)

// Exchange implements [session.Store].
func (s *Store) Exchange(ctx context.Context, x session.ExchangeParams) (session.Granted, error) {
	var (
		g session.Granted
		// refused is separate from the transaction's error: the identity of a refused
		// account is written as well.
		refused error
	)
	err := s.inTx(ctx, "Exchange", func(tx *writeTx) error {
		a, err := readApp(ctx, tx, x.AppID)
		if err != nil {
			return err
		}
		if a.Disabled {
			return auth.AppDisabled
		}
		row := x.Session()
		row.Epoch = a.Epoch
		var (
			disabled, personDisabled bool
			person                   uuid.NullUUID
			externalID, name         sql.NullString
		)
		err = tx.QueryRowContext(ctx, upsertIdentitySQL, x.NewIdentity, x.AppID, x.Account.SubjectKind, x.Account.Subject,
			textOrNull(x.Account.UnionID), x.SealedSessionKey, micros(row.StartedAt), shard.Of(x.NewIdentity)).
			Scan(&row.Identity, &disabled, &personDisabled, &person, &externalID, &name)
		switch {
		case err != nil:
			return err
		case disabled:
			refused = auth.About(auth.IdentityDisabled, auth.Subject{AppID: row.AppID, Identity: row.Identity})
			return nil
		case personDisabled:
			refused = auth.About(auth.PersonDisabled, auth.Subject{AppID: row.AppID, Identity: row.Identity})
			return nil
		}
		if person.Valid {
			row.Person = &auth.Person{ID: person.UUID, ExternalID: externalID.String, Name: name.String}
		}
		ended, err := makeRoom(ctx, tx, &x, &row)
		if err != nil {
			return err
		}
		g = session.Granted{Session: row, Audiences: a.Audiences, SigningAlg: a.SigningAlg, OmitExternalID: a.Policy.OmitExternalID, Verdict: session.Rotate, Ended: ended}
		_, err = tx.ExecContext(ctx, insertSessionSQL, row.ID, shard.Of(row.ID), row.Identity, row.AppID, row.Device, person,
			row.Ver, row.Epoch, row.Generation, micros(row.RotatedAt), micros(row.StartedAt),
			micros(row.IdleExpiresAt), micros(row.ExpiresAt))
		return err
	})
	if err == nil {
		err = refused
	}
	if err != nil {
		return session.Granted{}, err
	}
	return g, nil
}

// makeRoom ends the identity's sessions that exceed the limit with the new one, and
// returns their number.
func makeRoom(ctx context.Context, tx *writeTx, x *session.ExchangeParams, row *auth.Session) (int, error) {
	if x.MaxSessions == 0 {
		return 0, nil
	}
	surplus, err := surplusOf(ctx, tx, x, row)
	if err != nil {
		return 0, err
	}
	for _, id := range surplus {
		if err := writeAudit(ctx, tx, x.LimitEvent(row.Identity, id)); err != nil {
			return 0, err
		}
		if _, err := end(ctx, tx, id, auth.EndLimit, x.Now); err != nil {
			return 0, err
		}
	}
	return len(surplus), nil
}

func surplusOf(ctx context.Context, tx *writeTx, x *session.ExchangeParams, row *auth.Session) ([]uuid.UUID, error) {
	rows, err := tx.QueryContext(ctx, surplusSQL, row.Identity, row.Epoch, micros(x.Now), x.MaxSessions-1)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []uuid.UUID
	for rows.Next() {
		var id uuid.UUID
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}
