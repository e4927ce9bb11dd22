package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"github.com/yufu-auth/yufu/pkg/shard"
)

var (
	addShardKeySQL = statement(`insert into shard_key (sealed, check_value) values (?, ?)`)
	shardKeySQL    = statement(`select sealed, check_value from shard_key`)
)

// ShardKey implements [shard.Store].
func (s *Store) ShardKey(ctx context.Context) (shard.Sealed, error) {
	var k shard.Sealed
	err := s.r.QueryRowContext(ctx, shardKeySQL).Scan(&k.Key, &k.Check)
	if errors.Is(err, sql.ErrNoRows) {
		return shard.Sealed{}, shard.ErrMissing
	}
	if err != nil {
		return shard.Sealed{}, translate(ctx, "ShardKey", err)
	}
	return k, nil
}
