package postgres

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/pkg/shard"
)

var (
	addShardKeySQL = statement(`insert into shard_key (sealed, check_value) values ($1, $2)`)
	shardKeySQL    = statement(`select sealed, check_value from shard_key`)
)

// ShardKey implements [shard.Store].
func (s *Store) ShardKey(ctx context.Context) (shard.Sealed, error) {
	var k shard.Sealed
	err := s.pool.QueryRow(ctx, shardKeySQL).Scan(&k.Key, &k.Check)
	if errors.Is(err, pgx.ErrNoRows) {
		return shard.Sealed{}, shard.ErrMissing
	}
	if err != nil {
		return shard.Sealed{}, s.fail(ctx, "ShardKey", err)
	}
	return k, nil
}

// byShard yields each shard with its ids, in the order of the shards. A statement about
// rows of one shard touches one partition, whatever its plan.
func byShard(ids []uuid.UUID) iter.Seq2[int16, []uuid.UUID] {
	groups := map[int16][]uuid.UUID{}
	for _, id := range ids {
		groups[shard.Of(id)] = append(groups[shard.Of(id)], id)
	}
	return func(yield func(int16, []uuid.UUID) bool) {
		for _, n := range slices.Sorted(maps.Keys(groups)) {
			if !yield(n, groups[n]) {
				return
			}
		}
	}
}

// dividedSQL reports whether the tables of users are partitioned by shard or may be
// distributed by Citus. It works before the migration, too.
var dividedSQL = statement(`
select exists (select from pg_catalog.pg_class where oid = to_regclass('public.sessions') and relkind = 'p')
  or exists (select from pg_catalog.pg_extension where extname = 'citus')`)

// isDivided reports whether statements must be in the form for divided tables. That form
// works on all tables, and the other one is faster on plain tables. Every new connection
// reads it, see [Store.recognise].
func (s *Store) isDivided(ctx context.Context) (bool, error) {
	if s.divided.Load() == nil {
		c, err := s.pool.Acquire(ctx)
		if err != nil {
			return false, err
		}
		c.Release()
	}
	return *s.divided.Load(), nil
}
