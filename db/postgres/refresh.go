package postgres

import (
	"context"
	"errors"
	"math"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/shard"
)

// refreshSQL handles the common case: the presented generation is current. What it reads
// of the app does not change with the session's ver. Everything that does comes from the
// row being updated, which PostgreSQL reads again after a wait for its lock. It returns
// only what the caller cannot compute. The person's row is read only while bound.
//
// plan_cache_mode need not be set for it: after five executions on a connection PostgreSQL
// uses a generic plan, with up to 128 partitions, too (pg_prepared_statements shows it).
var refreshSQL = statement(`
update sessions s
set generation = s.generation + 1, rotated_at = $4, idle_expires_at = least($5, s.expires_at)
from apps a
where s.id = $1 and s.shard = $6 and s.appid = $2 and s.generation = $3
  and s.ended_at is null and s.expires_at > $4 and s.idle_expires_at > $4
  and a.appid = s.appid and a.disabled_at is null and a.epoch <= s.epoch
returning a.audiences, a.signing_alg,` + omitSQL + `,
  s.identity_uuid, s.device, s.ver, s.epoch, s.started_at, s.expires_at, s.person_id,
  case when s.person_id is not null then (select array[p.external_id, p.name] from persons p where p.id = s.person_id) end`)

// omitSQL reads from the policy of an app a whether tokens omit the external_id.
const omitSQL = ` coalesce((a.policy ->> 'omit_external_id')::boolean, false)`

// Refresh implements [session.Store].
func (s *Store) Refresh(ctx context.Context, r session.RefreshParams) (session.Granted, error) {
	// The next generation would overflow, and no such token is ever issued.
	if r.Presented == math.MaxUint32 {
		return session.Granted{}, auth.RefreshInvalid
	}
	r.Now = auth.StoredTime(r.Now)
	g, err := s.rotate(ctx, r)
	if errors.Is(err, pgx.ErrNoRows) {
		g, err = s.explain(ctx, r)
	}
	if err != nil {
		return session.Granted{}, s.fail(ctx, "Refresh", err)
	}
	return g, nil
}

func (s *Store) rotate(ctx context.Context, r session.RefreshParams) (session.Granted, error) {
	g := session.Granted{Verdict: session.Rotate}
	row := &g.Session
	row.ID, row.AppID, row.Generation, row.RotatedAt = r.Session, r.AppID, r.Presented+1, r.Now
	var (
		personID *uuid.UUID
		person   []string
	)
	err := s.write(ctx, func(c *pgxpool.Conn) error {
		return c.QueryRow(ctx, refreshSQL, r.Session, r.AppID, r.Presented, r.Now, auth.StoredTime(r.Now.Add(r.IdleTTL)), shard.Of(r.Session)).
			Scan(&g.Audiences, &g.SigningAlg, &g.OmitExternalID, &row.Identity, &row.Device, &row.Ver, &row.Epoch,
				&row.StartedAt, &row.ExpiresAt, &personID, &person)
	})
	if err != nil {
		return g, err
	}
	g.Audiences = nilIfEmpty(g.Audiences)
	row.StartedAt, row.ExpiresAt = row.StartedAt.UTC(), row.ExpiresAt.UTC()
	row.IdleExpiresAt = auth.StoredTime(session.IdleExpiry(r.Now, r.IdleTTL, row.ExpiresAt))
	var externalID, name *string
	if len(person) == 2 {
		externalID, name = &person[0], &person[1]
	}
	row.Person, err = boundPerson(ctx, s.pool, personID, externalID, name)
	return g, err
}

// stateSQL reads a session and the app that asks, which may be another than its own.
const stateSQL = `
select a.audiences, a.signing_alg,` + omitSQL + `, a.epoch, a.disabled_at is not null,` + sessionColumns + `
from sessions s cross join apps a
where s.id = $1 and s.shard = $3 and a.appid = $2`

var (
	presentedSQL       = statement(stateSQL)
	lockedPresentedSQL = statement(stateSQL + ` for update of s`)
)

// presented is a session as read by a refresh.
type presented struct {
	session.State
	audiences  []string
	signingAlg string
	omit       bool
}

func readPresented(ctx context.Context, q querier, sql string, r session.RefreshParams) (presented, error) {
	var (
		p   presented
		row sessionRow
	)
	err := q.QueryRow(ctx, sql, r.Session, r.AppID, shard.Of(r.Session)).
		Scan(append([]any{&p.audiences, &p.signingAlg, &p.omit, &p.AppEpoch, &p.AppDisabled}, row.targets()...)...)
	if err != nil {
		return p, err
	}
	p.audiences = nilIfEmpty(p.audiences)
	p.Session, err = row.session(ctx, q)
	return p, err
}

func (p *presented) grant(v session.Verdict) session.Granted {
	return session.Granted{Session: p.Session, Audiences: p.audiences, SigningAlg: p.signingAlg, OmitExternalID: p.omit, Verdict: v}
}

// explain finds out why rotate updated nothing. If nothing has to change, it answers
// from a read without locks; for a replay it first makes sure that what it read is
// durable. All other cases are judged again under locks.
func (s *Store) explain(ctx context.Context, r session.RefreshParams) (session.Granted, error) {
	p, err := readPresented(ctx, s.pool, presentedSQL, r)
	if errors.Is(err, pgx.ErrNoRows) {
		return session.Granted{}, s.missing(ctx, r.AppID)
	}
	if err != nil {
		return session.Granted{}, err
	}
	if err := p.RefreshError(r.AppID, r.Now); err != nil {
		return session.Granted{}, auth.About(err, p.Session.Subject())
	}
	if v := session.Judge(&p.Session, r.Presented, r.Now, r.Grace); v == session.Replay {
		// The commit of the first rotation may have been interrupted.
		return p.grant(v), s.Confirm(ctx)
	}
	return s.settle(ctx, r, p.Session.Identity)
}

// missing returns the error for a missing app or session.
func (s *Store) missing(ctx context.Context, appID string) error {
	switch app, err := readApp(ctx, s.pool, appSQL, appID); {
	case err != nil:
		return err
	case app.Disabled:
		return auth.AppDisabled
	default:
		return auth.RefreshExpired
	}
}

var advanceSQL = statement(`
update sessions set generation = $2, rotated_at = $3, idle_expires_at = $4 where id = $1 and shard = $5`)

// settle judges the token against the locked row and carries out the verdict: it
// advances the row or ends the session. Meanwhile the row may have reached any state,
// including the common one.
func (s *Store) settle(ctx context.Context, r session.RefreshParams, identity uuid.UUID) (session.Granted, error) {
	var g session.Granted
	err := s.inTx(ctx, "Refresh", func(tx *transaction) error {
		// A separate statement: the next one must see what the last holder of the lock
		// did to the identity's sessions.
		if err := tx.QueryRow(ctx, lockIdentitySQL, identity, shard.Of(identity)).Scan(&identity); err != nil {
			return err
		}
		p, err := readPresented(ctx, tx, lockedPresentedSQL, r)
		if errors.Is(err, pgx.ErrNoRows) {
			return auth.RefreshExpired
		}
		if err != nil {
			return err
		}
		if err := p.RefreshError(r.AppID, r.Now); err != nil {
			return auth.About(err, p.Session.Subject())
		}
		v := session.Judge(&p.Session, r.Presented, r.Now, r.Grace)
		var b pgx.Batch
		if e, ok := r.Event(v, &p.Session); ok {
			if err := queueAudit(&b, e); err != nil {
				return err
			}
		}
		switch v {
		case session.Rotate, session.RolledBack:
			row := &p.Session
			row.Generation, row.RotatedAt = r.Presented+1, r.Now
			row.IdleExpiresAt = auth.StoredTime(session.IdleExpiry(r.Now, r.IdleTTL, row.ExpiresAt))
			b.Queue(advanceSQL, row.ID, row.Generation, row.RotatedAt, row.IdleExpiresAt, shard.Of(row.ID))
		case session.ReplayLate, session.Reuse:
			queueEnd(&b, v.EndReason(), r.Now, sessionOfApp{p.Session.ID, p.Session.AppID})
		}
		g = p.grant(v)
		if b.Len() == 0 {
			return nil
		}
		return tx.commit(ctx, &b)
	})
	if err == nil {
		err = auth.About(g.Verdict.Refusal(), g.Session.Subject())
	}
	return g, err
}
