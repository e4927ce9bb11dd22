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

// tableKind is what kind of tables the database has for identities and sessions.
type tableKind string

const (
	tablesPlain       tableKind = "plain"
	tablesPartitioned tableKind = "partitioned"
	tablesCitus       tableKind = "citus" // they may be distributed
)

// tableKindSQL reads the kind. It works before the migration, too, and for every role.
var tableKindSQL = statement(`
select case
  when to_regclass('pg_catalog.pg_dist_partition') is not null then 'citus'
  when exists (select from pg_catalog.pg_class where oid = to_regclass('public.sessions') and relkind = 'p') then 'partitioned'
  else 'plain' end`)

// tableKind returns the kind that the newest connection found.
func (s *Store) tableKind(ctx context.Context) (tableKind, error) {
	if s.tables.Load() == nil {
		c, err := s.pool.Acquire(ctx)
		if err != nil {
			return "", err
		}
		c.Release()
	}
	return *s.tables.Load(), nil
}

// isDivided reports whether statements must be in the form for divided tables. That form
// works on all tables, and the other one is faster on plain tables.
func (s *Store) isDivided(ctx context.Context) (bool, error) {
	kind, err := s.tableKind(ctx)
	return kind != tablesPlain, err
}
