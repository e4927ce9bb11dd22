package binding_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/db"
	"github.com/yufu-auth/yufu/db/sqlite"
	"github.com/yufu-auth/yufu/pkg/auth"
)

// erasing is a store in which an admin erases the identity that binds by phone, just
// before the platform is asked.
type erasing struct {
	db.Store
	erase func(ctx context.Context, identity uuid.UUID) error
}

func (s erasing) PlatformAccount(ctx context.Context, identity uuid.UUID) (auth.PlatformAccount, error) {
	if err := s.erase(ctx, identity); err != nil {
		return auth.PlatformAccount{}, err
	}
	return s.Store.PlatformAccount(ctx, identity)
}

func TestBindErased(t *testing.T) {
	t.Parallel()
	var w *world
	w = newWorldOver(t, func(s *sqlite.Store) db.Store {
		return erasing{s, func(ctx context.Context, identity uuid.UUID) error {
			return w.Persons.EraseIdentity(ctx, identity, auth.Caller{Actor: auth.ActorCLI})
		}}
	})
	if _, err := w.ByPhone(w.Login("alice").AccessToken, "alice", "13800001001"); !errors.Is(err, auth.SessionRevoked) {
		t.Errorf("ByPhone() error = %v, want %v", err, auth.SessionRevoked)
	}
	for _, c := range w.Simulator.Calls() {
		if c.Path == "/wxa/business/getuserphonenumber" {
			t.Error("the platform was asked for the number")
		}
	}
}
