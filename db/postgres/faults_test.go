package postgres_test

import (
	"testing"

	"github.com/yufu-auth/yufu/db"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

// The synctest bubble owns every goroutine of the store, but not the server.
func TestFaults(t *testing.T) {
	dsn := migrated.New(t)
	sessiontest.Faults(t, func(t *testing.T) (db.Store, func() int) {
		store, db := openStore(t, dsn), openRaw(t, dsn)
		return store, func() (n int) {
			if err := db.QueryRowContext(t.Context(), `select count(*) from sessions`).Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		}
	})
}
