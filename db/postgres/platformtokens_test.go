package postgres_test

import (
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/platform/accesstoken"
)

// TestLeaseTwoReplicas holds the row while both replicas ask, so that neither has seen
// the other's lease when it begins.
func TestLeaseTwoReplicas(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	first := accesstoken.LeaseParams{AppID: appID, Lease: newID(), Now: now, Until: now.Add(time.Second)}
	if _, granted, err := b.store.LeasePlatformToken(t.Context(), first); !granted || err != nil {
		t.Fatalf("LeasePlatformToken() = %t, %v", granted, err)
	}
	later := now.Add(time.Minute) // the first lease has expired
	tx := b.begin()
	b.exec(tx, `select from platform_tokens for update`)
	type answer struct {
		granted bool
		err     error
	}
	answers := make(chan answer, 2)
	for range 2 {
		go func() {
			_, granted, err := b.store.LeasePlatformToken(t.Context(), accesstoken.LeaseParams{AppID: appID, Lease: newID(), Now: later, Until: later.Add(time.Second)})
			answers <- answer{granted, err}
		}()
	}
	b.untilWaiting(2, row)
	b.commit(tx)
	granted := 0
	for range 2 {
		a := <-answers
		if a.err != nil {
			t.Error(a.err)
		}
		if a.granted {
			granted++
		}
	}
	if granted != 1 {
		t.Errorf("%d replicas got the lease, want 1", granted)
	}
}

func TestLeaseReturnsKeptToken(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	first := accesstoken.LeaseParams{AppID: appID, Lease: newID(), Now: now, Until: now.Add(time.Second)}
	if _, granted, err := b.store.LeasePlatformToken(t.Context(), first); !granted || err != nil {
		t.Fatalf("LeasePlatformToken() = %t, %v", granted, err)
	}
	tx := b.begin()
	b.exec(tx, `update platform_tokens set sealed_token = 'fresh', expires_at = $1, lease = null, leased_until = null`, now.Add(time.Hour))
	type answer struct {
		kept    accesstoken.Kept
		granted bool
		err     error
	}
	answers := make(chan answer, 1)
	go func() {
		kept, granted, err := b.store.LeasePlatformToken(t.Context(), accesstoken.LeaseParams{AppID: appID, Lease: newID(), Now: now, Until: now.Add(time.Second)})
		answers <- answer{kept, granted, err}
	}()
	b.untilWaiting(1, row)
	b.commit(tx)
	if a := <-answers; a.err != nil || !a.granted || string(a.kept.Sealed) != "fresh" {
		t.Errorf("LeasePlatformToken() = %+v", a)
	}
}
