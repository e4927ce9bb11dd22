package postgres_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/servicekey"
)

// TestFirstPinBesideAnotherTransaction holds that a first use that waits for
// another one takes its decision, although the apps are others by then.
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
	b.exec(tx, `insert into apps (appid, platform, sealed_secret, created_at, updated_at) values ('wxlater', 'wechat', '', $1, $1)`, now)
	b.exec(tx, `update service_keys set pinned_app = $2, pinned_at = $3 where id = $1`, k.ID, appID, now.Add(-time.Hour))
	b.commit(tx)
	wantNoError(t, <-first)
	if pinned.PinnedApp != appID || !pinned.PinnedAt.Equal(now.Add(-time.Hour)) {
		t.Errorf("pinned to %q at %v, want what was decided first: %q at %v", pinned.PinnedApp, pinned.PinnedAt, appID, now.Add(-time.Hour))
	}
	if n := b.number(b.raw, `select count(*) from audit where action = 'service_key.pinned'`); n != 0 {
		t.Errorf("%d pins were audited, want none by the one that waited", n)
	}
}
