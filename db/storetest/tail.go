package storetest

import (
	"database/sql"
	"testing"

	"github.com/yufu-auth/yufu/pkg/binding/bindingtest"
)

// Tail returns what [bindingtest.LostTail] needs of a database. db accesses it without
// the store; the other arguments are the fields of the same names.
func Tail(db *sql.DB, tables, unordered, sequence string) bindingtest.Tail {
	return bindingtest.Tail{
		Tables: tables, Unordered: unordered, Sequence: sequence,
		Exec: func(t testing.TB, query string) {
			t.Helper()
			if _, err := db.ExecContext(t.Context(), query); err != nil {
				t.Fatal(err)
			}
		},
		Texts: func(t testing.TB, query string) (texts []string) {
			t.Helper()
			rows, err := db.QueryContext(t.Context(), query)
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			for rows.Next() {
				var text string
				if err := rows.Scan(&text); err != nil {
					t.Fatal(err)
				}
				texts = append(texts, text)
			}
			if err := rows.Err(); err != nil {
				t.Fatal(err)
			}
			return texts
		},
	}
}
