package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/pkg/auth"
)

var (
	saveReplicaSQL = statement(`
with old as (delete from replicas where seen_at <= $12 and id <> $1)
insert into replicas (id, version, issuer, jwks_max_age, session_max_ttl, max_staleness, master_key, ready, reason, started_at, seen_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
on conflict (id) do update set master_key = excluded.master_key, ready = excluded.ready, reason = excluded.reason, seen_at = excluded.seen_at`)
	replicasSQL = statement(`
select id, version, issuer, jwks_max_age, session_max_ttl, max_staleness, master_key, ready, reason, started_at, seen_at
from replicas order by started_at, id`)
)

// SaveReplica implements [auth.ReplicaStore].
func (s *Store) SaveReplica(ctx context.Context, r auth.Replica) error {
	_, err := s.exec(ctx, saveReplicaSQL, r.ID, r.Version, r.Issuer, r.JWKSMaxAge.Milliseconds(), r.SessionMaxTTL.Milliseconds(),
		r.MaxStaleness.Milliseconds(), r.MasterKey, r.Ready, r.Reason, auth.StoredTime(r.StartedAt), auth.StoredTime(r.SeenAt),
		auth.StoredTime(r.SeenAt.Add(-auth.ReplicaRetention)))
	return s.fail(ctx, "SaveReplica", err)
}

// Replicas implements [auth.ReplicaStore].
func (s *Store) Replicas(ctx context.Context) ([]auth.Replica, error) {
	rows, err := s.pool.Query(ctx, replicasSQL)
	if err != nil {
		return nil, s.fail(ctx, "Replicas", err)
	}
	all, err := pgx.AppendRows([]auth.Replica(nil), rows, func(row pgx.CollectableRow) (auth.Replica, error) {
		var (
			r                         auth.Replica
			jwks, sessions, staleness int64
		)
		err := row.Scan(&r.ID, &r.Version, &r.Issuer, &jwks, &sessions, &staleness, &r.MasterKey, &r.Ready, &r.Reason, &r.StartedAt, &r.SeenAt)
		r.JWKSMaxAge, r.SessionMaxTTL, r.MaxStaleness = millis(jwks), millis(sessions), millis(staleness)
		r.StartedAt, r.SeenAt = r.StartedAt.UTC(), r.SeenAt.UTC()
		return r, err
	})
	return all, s.fail(ctx, "Replicas", err)
}

func millis(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
