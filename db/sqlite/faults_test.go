package sqlite_test

import (
	"testing"

	"github.com/yufu-auth/yufu/db"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

// The synctest bubble owns every goroutine of the store.
func TestFaults(t *testing.T) {
	sessiontest.Faults(t, func(t *testing.T) (db.Store, func() int) {
		h := open(t)
		return h.Store, func() (n int) {
			if err := h.DB.QueryRowContext(t.Context(), `select count(*) from sessions`).Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		}
	})
}
