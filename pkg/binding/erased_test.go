package binding_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/db/sqlite"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/binding/bindingtest"
)

// erasing is a store in which an admin erases whoever binds himself by phone,
// just before the platform is asked.
type erasing struct {
	bindingtest.Store
	erase func(ctx context.Context, identity uuid.UUID) error
}

func (s erasing) PlatformAccount(ctx context.Context, identity uuid.UUID) (openID, unionID string, err error) {
	if err := s.erase(ctx, identity); err != nil {
		return "", "", err
	}
	return s.Store.PlatformAccount(ctx, identity)
}

func TestWhoIsErasedMeanwhileIsNotBoundByPhone(t *testing.T) {
	t.Parallel()
	var admin *binding.Admin
	w := newWorldOver(t, func(s *sqlite.Store) bindingtest.Store {
		return erasing{s, func(ctx context.Context, identity uuid.UUID) error {
			return admin.EraseIdentity(ctx, identity, binding.Caller{Actor: auth.ActorCLI})
		}}
	})
	admin = binding.NewAdmin(binding.AdminConfig{Store: w.store, Apps: w.store, Facts: w.Facts, Sealer: w.Sealer, Clock: w.Clock.Now})
	if _, err := w.ByPhone(w.Login("alice").AccessToken, "alice", "13800001001"); !errors.Is(err, auth.SessionRevoked) {
		t.Errorf("%v, want session_revoked", err)
	}
	for _, c := range w.Simulator.Calls() {
		if c.Path == "/wxa/business/getuserphonenumber" {
			t.Error("the platform was asked for his number")
		}
	}
}
