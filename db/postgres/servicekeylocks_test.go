package postgres_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/servicekey"
)

// TestFirstPinBesideAnotherTransaction checks that a first use that waits for another one
// adopts its decision, even if the apps have changed.
func TestFirstPinBesideAnotherTransaction(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	k := servicekey.Key{
		ID: strings.Repeat("k", 16), Name: "shop", Scopes: []servicekey.Scope{servicekey.ScopeService}, CreatedAt: now,
	}
	wantNoError(t, b.store.AddServiceKey(t.Context(), k, adminEvent(auth.AuditServiceKeyAdded)))
	tx := b.begin()
	b.exec(tx, `select from service_keys where id = $1 for no key update`, k.ID)
	var pinned servicekey.Key
	first := b.startAdmin(func(ctx context.Context) (err error) {
		pinned, err = b.store.FirstPinServiceKey(ctx, k.ID, adminEvent(auth.AuditServiceKeyPin))
		return err
	})
	b.untilWaiting(1, row)
	b.exec(tx, `insert into apps (appid, platform, sealed_credentials, created_at, updated_at) values ('wxlater', 'wechat', '{}', $1, $1)`, now)
	b.exec(tx, `update service_keys set pinned_app = $2, pinned_at = $3 where id = $1`, k.ID, appID, now.Add(-time.Hour))
	b.commit(tx)
	wantNoError(t, <-first)
	if pinned.PinnedApp != appID || !pinned.PinnedAt.Equal(now.Add(-time.Hour)) {
		t.Errorf("pinned to %q at %v, want the first decision: %q at %v", pinned.PinnedApp, pinned.PinnedAt, appID, now.Add(-time.Hour))
	}
	if n := b.number(b.raw, `select count(*) from audit where action = 'service_key.pinned'`); n != 0 {
		t.Errorf("the waiting use audited %d pins, want 0", n)
	}
}

// TestServiceKeysBesideAnotherTransaction checks that a revocation that waits for a new
// key revokes it, and that a key cannot create another after waiting for its revocation.
func TestServiceKeysBesideAnotherTransaction(t *testing.T) {
	t.Parallel()
	parent := servicekey.Key{
		ID: strings.Repeat("a", 16), Name: "a", Scopes: []servicekey.Scope{servicekey.ScopeAdmin}, CreatedAt: now, Creator: auth.ActorCLI,
	}
	child := parent
	child.ID, child.Creator = strings.Repeat("c", 16), auth.ActorServiceKey(parent.ID)
	bed := func(t *testing.T) *bed {
		b := newBed(t)
		wantNoError(t, b.store.AddServiceKey(t.Context(), parent, adminEvent(auth.AuditServiceKeyAdded)))
		return b
	}
	t.Run("a revocation waits for a key that is being created", func(t *testing.T) {
		t.Parallel()
		b := bed(t)
		tx := b.begin()
		b.exec(tx, `select pg_advisory_xact_lock($1)`, postgres.LockServiceKeys)
		var r servicekey.Revocation
		revoked := b.startAdmin(func(ctx context.Context) (err error) {
			r, err = b.store.RevokeServiceKey(ctx, parent.ID, true, adminEvent(auth.AuditServiceKeyEnded))
			return err
		})
		b.untilWaiting(1, advisory)
		b.exec(tx, `insert into service_keys (id, name, scopes, hash, created_at, creator) values ($1, 'c', '{admin}', $2, $3, $4)`,
			child.ID, child.Hash[:], now, child.Creator)
		b.commit(tx)
		wantNoError(t, <-revoked)
		if n := b.number(b.raw, `select count(*) from service_keys where revoked_at is null`); n != 0 || len(r.Revoked) != 2 {
			t.Errorf("%d keys still work and %d were revoked; want 0 and 2", n, len(r.Revoked))
		}
	})
	t.Run("a key cannot create a key after waiting for its own revocation", func(t *testing.T) {
		t.Parallel()
		b := bed(t)
		tx := b.begin()
		b.exec(tx, `select pg_advisory_xact_lock($1)`, postgres.LockServiceKeys)
		added := b.startAdmin(func(ctx context.Context) error {
			return b.store.AddServiceKey(ctx, child, adminEvent(auth.AuditServiceKeyAdded))
		})
		b.untilWaiting(1, advisory)
		b.exec(tx, `update service_keys set revoked_at = $2 where id = $1`, parent.ID, now)
		b.commit(tx)
		if err := <-added; !errors.Is(err, auth.ServiceKeyInvalid) {
			t.Errorf("AddServiceKey() error = %v, want service_key_invalid", err)
		}
	})
}
