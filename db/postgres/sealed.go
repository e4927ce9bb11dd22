package postgres

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/masterkey"
	"github.com/yufu-auth/yufu/pkg/shard"
)

// sealedSQL and replaceSealedSQL have a statement for each sealed column.
var sealedSQL, replaceSealedSQL = sealedStatements()

func sealedStatements() (read, replace map[*masterkey.Column]string) {
	read, replace = map[*masterkey.Column]string{}, map[*masterkey.Column]string{}
	for _, c := range masterkey.Columns {
		read[c] = statement(`
select ` + c.Key + `::text, ` + c.Name + `, ` + strings.Join(c.Place, `, `) + `
from ` + c.Table + ` where ` + c.Key + ` > $1 order by ` + c.Key + ` limit $2`)
		update := `update ` + c.Table + ` set ` + c.Name + ` = $3 where ` + c.Key + ` = $1 and ` + c.Name + ` = $2`
		if c.Sharded {
			update += ` and shard = $4`
		}
		replace[c] = statement(update)
	}
	return read, replace
}

// SealedRows implements [masterkey.Store].
func (s *Store) SealedRows(ctx context.Context, c *masterkey.Column, after string, limit int) ([]masterkey.Row, error) {
	rows, err := s.pool.Query(ctx, sealedSQL[c], after, limit)
	if err != nil {
		return nil, s.fail(ctx, "SealedRows", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (masterkey.Row, error) { return c.Scan(row.Scan) })
	return all, s.fail(ctx, "SealedRows", err)
}

// sealedWriters is how many rows [Store.ReplaceSealed] changes at once. Their commits share
// writes to the disk and waits for the standby.
const sealedWriters = 4

// ReplaceSealed implements [masterkey.Store]. Each row has a transaction of its own: while one
// waits for a lock, no other row stays locked.
func (s *Store) ReplaceSealed(ctx context.Context, c *masterkey.Column, changes []masterkey.Replacement) (int, error) {
	var (
		replaced atomic.Int64
		writers  sync.WaitGroup
		errs     [sealedWriters]error
	)
	for w := range errs {
		writers.Go(func() {
			for i := w; i < len(changes) && errs[w] == nil; i += sealedWriters {
				args := []any{changes[i].Key, changes[i].Old, changes[i].New}
				if c.Sharded {
					args = append(args, shard.Of(uuid.MustParse(changes[i].Key)))
				}
				var tag pgconn.CommandTag
				tag, errs[w] = s.exec(ctx, replaceSealedSQL[c], args...)
				replaced.Add(tag.RowsAffected())
			}
		})
	}
	writers.Wait()
	return int(replaced.Load()), s.fail(ctx, "ReplaceSealed", errors.Join(errs[:]...))
}

// RecordRewrap implements [masterkey.Store].
func (s *Store) RecordRewrap(ctx context.Context, event auth.AuditEvent) error {
	return s.inTx(ctx, "RecordRewrap", func(tx *transaction) error {
		var b pgx.Batch
		if err := queueAudit(&b, event); err != nil {
			return err
		}
		return tx.commit(ctx, &b)
	})
}
