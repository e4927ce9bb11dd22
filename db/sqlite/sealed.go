package sqlite

import (
	"context"
	"database/sql"
	"strings"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/masterkey"
)

// sealedSQL and replaceSealedSQL have a statement for each sealed column.
var sealedSQL, replaceSealedSQL = sealedStatements()

func sealedStatements() (read, replace map[*masterkey.Column]string) {
	read, replace = map[*masterkey.Column]string{}, map[*masterkey.Column]string{}
	for _, c := range masterkey.Columns {
		read[c] = statement(`select ` + c.Key + `, ` + c.Name + `, ` + strings.Join(c.Place, `, `) +
			` from ` + c.Table + ` where ` + c.Key + ` > ? order by ` + c.Key + ` limit ?`)
		replace[c] = statement(`update ` + c.Table + ` set ` + c.Name + ` = ?3 where ` + c.Key + ` = ?1 and ` + c.Name + ` = ?2`)
	}
	return read, replace
}

// SealedRows implements [masterkey.Store].
func (s *Store) SealedRows(ctx context.Context, c *masterkey.Column, after string, limit int) ([]masterkey.Row, error) {
	rows, err := s.r.QueryContext(ctx, sealedSQL[c], after, limit)
	if err != nil {
		return nil, translate(ctx, "SealedRows", err)
	}
	all, err := collect(rows, func(rows *sql.Rows) (masterkey.Row, error) { return c.Scan(rows.Scan) })
	return all, translate(ctx, "SealedRows", err)
}

// ReplaceSealed implements [masterkey.Store]. It is one transaction.
func (s *Store) ReplaceSealed(ctx context.Context, c *masterkey.Column, changes []masterkey.Replacement) (replaced int, err error) {
	err = s.inTx(ctx, "ReplaceSealed", func(tx *writeTx) error {
		for _, r := range changes {
			args := []any{r.Key, r.Old, r.New}
			if c.Named { // JSON is text
				args = []any{r.Key, string(r.Old), string(r.New)}
			}
			result, err := tx.ExecContext(ctx, replaceSealedSQL[c], args...)
			if err != nil {
				return err
			}
			n, err := result.RowsAffected()
			if err != nil {
				return err
			}
			replaced += int(n)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return replaced, nil
}

// RecordRewrap implements [masterkey.Store].
func (s *Store) RecordRewrap(ctx context.Context, event auth.AuditEvent) error {
	return s.inTx(ctx, "RecordRewrap", func(tx *writeTx) error { return writeAudit(ctx, tx, event) })
}
