package sqlite

import (
	"context"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
)

var (
	saveReplicaSQL = statement(`
insert into replicas (id, version, issuer, jwks_max_age, session_max_ttl, max_staleness, master_key, ready, reason, started_at, seen_at)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict (id) do update set master_key = excluded.master_key, ready = excluded.ready, reason = excluded.reason, seen_at = excluded.seen_at`)
	deleteReplicasSQL = statement(`delete from replicas where seen_at <= ? and id <> ?`)
	replicasSQL       = statement(`
select id, version, issuer, jwks_max_age, session_max_ttl, max_staleness, master_key, ready, reason, started_at, seen_at
from replicas order by started_at, id`)
)

// SaveReplica implements [auth.ReplicaStore].
func (s *Store) SaveReplica(ctx context.Context, r auth.Replica) error {
	return s.inTx(ctx, "SaveReplica", func(tx *writeTx) error {
		if _, err := tx.ExecContext(ctx, deleteReplicasSQL, micros(r.SeenAt.Add(-auth.ReplicaRetention)), r.ID.String()); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, saveReplicaSQL, r.ID.String(), r.Version, r.Issuer, r.JWKSMaxAge.Milliseconds(), r.SessionMaxTTL.Milliseconds(),
			r.MaxStaleness.Milliseconds(), r.MasterKey, r.Ready, r.Reason, micros(r.StartedAt), micros(r.SeenAt))
		return err
	})
}

// Replicas implements [auth.ReplicaStore].
func (s *Store) Replicas(ctx context.Context) ([]auth.Replica, error) {
	rows, err := s.r.QueryContext(ctx, replicasSQL)
	if err != nil {
		return nil, translate(ctx, "Replicas", err)
	}
	defer rows.Close()
	var all []auth.Replica
	for rows.Next() {
		var (
			r                         auth.Replica
			jwks, sessions, staleness int64
		)
		if err := rows.Scan(&r.ID, &r.Version, &r.Issuer, &jwks, &sessions, &staleness, &r.MasterKey, &r.Ready, &r.Reason, into(&r.StartedAt), into(&r.SeenAt)); err != nil {
			return nil, translate(ctx, "Replicas", err)
		}
		r.JWKSMaxAge, r.SessionMaxTTL, r.MaxStaleness = millis(jwks), millis(sessions), millis(staleness)
		all = append(all, r)
	}
	return all, translate(ctx, "Replicas", rows.Err())
}

func millis(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
