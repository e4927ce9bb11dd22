package sqlite_test

import (
	"testing"

	"github.com/yufu-auth/yufu/db"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

func TestClocks(t *testing.T) {
	t.Parallel()
	sessiontest.Clocks(t, func(t *testing.T) db.Store { return open(t).Store })
}
