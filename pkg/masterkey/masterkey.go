// Package masterkey knows which columns of the database are sealed with the master key, and
// seals them again with another line of the master-key file.
//
// It owns the list of the sealed columns ([Columns]), the check that a ring opens them
// ([Check]), the count of what each line seals ([Inspect]), and the change to the first line
// ([Rewrap]). It does not own the sealed format and the file (pkg/seal), the meaning of a
// value, or the SQL (db).
//
// All functions read a table in batches, in the order of its key, without a transaction
// around the batches. Rewrap replaces a value only if it is still the one that it read, so it
// never overwrites a change by the service. It stores no progress: a run that was interrupted
// is continued by another run.
//
// Failure: a value that does not open is counted or reported, and stays as it is. After an
// error of the store, what was replaced stays replaced.
package masterkey

import (
	"context"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// Column is a sealed column. An empty value is not sealed.
type Column struct {
	// What names the values for operators.
	What        string
	Table, Name string
	// Key is the first column of the primary key; it is unique. First is before all keys.
	Key, First string
	// Place are the columns, or literals, that follow the table and the column in the
	// associated data.
	Place []string
	// Named says that the column is a JSON object of sealed values in base64. The name of
	// a value is the last part of its associated data.
	Named bool
	// Sharded says that the key is a uuid that has the row's shard. A statement that
	// writes must name the shard.
	Sharded bool
	// Renewed says that the service replaces a value that does not open.
	Renewed bool
}

// Columns are all sealed columns of the database.
var Columns = []*Column{
	{What: "AppSecrets", Table: "apps", Name: "sealed_credentials", Key: "appid", Place: []string{"appid"}, Named: true},
	{What: "webhook secrets", Table: "apps", Name: "sealed_webhook_secret", Key: "appid", Place: []string{"appid"}},
	{What: "signing and MAC keys", Table: "signing_keys", Name: "sealed", Key: "kid", Place: []string{"kid"}},
	{What: "key of the facts", Table: "fact_keys", Name: "sealed", Key: "id", First: "0", Place: []string{"'1'"}},
	{What: "key of the shards", Table: "shard_key", Name: "sealed", Key: "one", First: "0", Place: []string{"'1'"}},
	{What: "platform access tokens", Table: "platform_tokens", Name: "sealed_token", Key: "appid", Place: []string{"appid"}, Renewed: true},
	{What: "session_keys", Table: "identities", Name: "sealed_session_key", Key: "uuid", First: uuid.Nil.String(),
		Place: []string{"appid", "subject_kind", "subject"}, Sharded: true, Renewed: true},
}

// Row is a row of a sealed column.
type Row struct {
	Key string
	// Place has the values of [Column.Place].
	Place []string
	// Stored is the column as it is stored.
	Stored []byte
}

// Scan scans the key, the column and its place, in this order.
func (c *Column) Scan(scan func(...any) error) (Row, error) {
	r := Row{Place: make([]string, len(c.Place))}
	dest := []any{&r.Key, &r.Stored}
	for i := range r.Place {
		dest = append(dest, &r.Place[i])
	}
	err := scan(dest...)
	return r, err
}

// Replacement is a new content of a column in the row with this key.
type Replacement struct {
	Key      string
	Old, New []byte
}

// Store gives access to the sealed columns. Methods return [auth.StorageUnavailable] when the
// database does not answer.
type Store interface {
	// SealedRows returns the next rows after a key, at most limit, in the order of the keys.
	SealedRows(ctx context.Context, c *Column, after string, limit int) ([]Row, error)
	// ReplaceSealed makes the replacements whose Old is still stored, and returns their
	// number. It locks rows one at a time, where the store locks rows. After an error some
	// replacements may have been made.
	ReplaceSealed(ctx context.Context, c *Column, changes []Replacement) (int, error)
	// RecordRewrap writes the audit event of a run of [Rewrap].
	RecordRewrap(ctx context.Context, event auth.AuditEvent) error
}
