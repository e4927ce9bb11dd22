package storetest

import (
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/platform/accesstoken"
)

const leaseFor = 15 * time.Second

var platformToken = accesstoken.Kept{Sealed: []byte{0, 1, 2, 255}, ExpiresAt: t0.Add(2 * time.Hour)}

func leaseParams(lease uuid.UUID, now time.Time) accesstoken.LeaseParams {
	return accesstoken.LeaseParams{AppID: appA, Lease: lease, Now: now, Until: now.Add(leaseFor)}
}

func forceParams(lease uuid.UUID, now time.Time) accesstoken.ForceParams {
	return accesstoken.ForceParams{AppID: appA, Lease: lease, Now: now, Every: 30 * time.Second, Day: "2026-03-04", PerDay: 3}
}

// lease requests app A's lease.
func (f *fixture) lease(t testing.TB, id uuid.UUID, now time.Time) (accesstoken.Kept, bool) {
	t.Helper()
	kept, granted, err := f.Store.LeasePlatformToken(t.Context(), leaseParams(id, now))
	wantCode(t, err, "")
	return kept, granted
}

// mustLease takes app A's lease with a new id.
func (f *fixture) mustLease(t testing.TB, now time.Time) uuid.UUID {
	t.Helper()
	id := newID()
	if _, granted := f.lease(t, id, now); !granted {
		t.Fatal("the lease was not granted")
	}
	return id
}

func (f *fixture) keep(t testing.TB, lease uuid.UUID, token accesstoken.Kept) bool {
	t.Helper()
	kept, err := f.Store.KeepPlatformToken(t.Context(), appA, lease, token)
	wantCode(t, err, "")
	return kept
}

func (f *fixture) force(t testing.TB, p accesstoken.ForceParams) bool {
	t.Helper()
	may, err := f.Store.ForcePlatformToken(t.Context(), p)
	wantCode(t, err, "")
	return may
}

func (f *fixture) wantToken(t testing.TB, want accesstoken.Kept) {
	t.Helper()
	got, err := f.Store.PlatformToken(t.Context(), appA)
	wantCode(t, err, "")
	wantEqual(t, "token", got, want)
}

var platformTokenTests = []test{
	{"a new app has no token, even while the lease is held", func(t *testing.T, f *fixture) {
		f.wantToken(t, accesstoken.Kept{})
		kept, granted := f.lease(t, newID(), t0)
		wantEqual(t, "granted", granted, true)
		wantEqual(t, "with the lease", kept, accesstoken.Kept{})
		f.wantToken(t, accesstoken.Kept{})
	}},
	{"the holder's token is read back, and keeping it ends the lease", func(t *testing.T, f *fixture) {
		wantEqual(t, "kept", f.keep(t, f.mustLease(t, t0), platformToken), true)
		f.wantToken(t, platformToken)
		kept, granted := f.lease(t, newID(), t0)
		wantEqual(t, "granted to the next", granted, true)
		wantEqual(t, "with the lease", kept, platformToken)
	}},
	{"each app has its own token", func(t *testing.T, f *fixture) {
		f.keep(t, f.mustLease(t, t0), platformToken)
		got, err := f.Store.PlatformToken(t.Context(), appB)
		wantCode(t, err, "")
		wantEqual(t, "another app's", got, accesstoken.Kept{})
		f.mustLease(t, t0)
		p := leaseParams(newID(), t0)
		p.AppID = appB
		_, granted, err := f.Store.LeasePlatformToken(t.Context(), p)
		wantCode(t, err, "")
		wantEqual(t, "another app's lease", granted, true)
	}},
	{"no other caller gets the lease until it ends", func(t *testing.T, f *fixture) {
		f.keep(t, f.mustLease(t, t0), platformToken)
		id := f.mustLease(t, t0)
		kept, granted := f.lease(t, newID(), t0.Add(leaseFor-time.Microsecond))
		wantEqual(t, "granted before its end", granted, false)
		wantEqual(t, "the unchanged token", kept, platformToken)
		wantCode(t, f.Store.EndPlatformTokenLease(t.Context(), appA, newID()), "")
		_, granted = f.lease(t, newID(), t0)
		wantEqual(t, "granted after another caller tried to end it", granted, false)
		wantCode(t, f.Store.EndPlatformTokenLease(t.Context(), appA, id), "")
		_, granted = f.lease(t, newID(), t0)
		wantEqual(t, "granted after it was ended", granted, true)
		f.wantToken(t, platformToken)
	}},
	{"a holder that lost the lease changes nothing", func(t *testing.T, f *fixture) {
		lost := f.mustLease(t, t0)
		now := t0.Add(leaseFor)
		held := f.mustLease(t, now)
		wantEqual(t, "kept", f.keep(t, lost, platformToken), false)
		wantEqual(t, "forced", f.force(t, forceParams(lost, now)), false)
		wantCode(t, f.Store.EndPlatformTokenLease(t.Context(), appA, lost), "")
		f.wantToken(t, accesstoken.Kept{})
		_, granted := f.lease(t, newID(), now)
		wantEqual(t, "granted", granted, false)
		wantEqual(t, "forced by the holder", f.force(t, forceParams(held, now)), true)
		wantEqual(t, "kept by the holder", f.keep(t, held, platformToken), true)
		wantEqual(t, "kept twice", f.keep(t, held, accesstoken.Kept{Sealed: []byte("x"), ExpiresAt: t0}), false)
		f.wantToken(t, platformToken)
	}},
	{"an expired lease is valid until another caller takes it", func(t *testing.T, f *fixture) {
		id := f.mustLease(t, t0)
		wantEqual(t, "kept", f.keep(t, id, platformToken), true)
	}},
	{"forced renewals are limited by time and by day across leases", func(t *testing.T, f *fixture) {
		now := t0
		for i := range 3 {
			id := f.mustLease(t, now)
			wantEqual(t, "forced", f.force(t, forceParams(id, now)), true)
			wantEqual(t, "forced again at once", f.force(t, forceParams(id, now.Add(30*time.Second-time.Microsecond))), false)
			wantEqual(t, "kept", f.keep(t, id, platformToken), true)
			now = now.Add(30 * time.Second)
			wantEqual(t, "forced renewals on that day", f.number(t, `select forced_count from platform_tokens`), i+1)
		}
		p := forceParams(f.mustLease(t, now), now)
		wantEqual(t, "forced beyond the daily limit", f.force(t, p), false)
		p.Day = "2026-03-05"
		wantEqual(t, "forced on the next day", f.force(t, p), true)
		wantEqual(t, "forced renewals on the next day", f.number(t, `select forced_count from platform_tokens`), 1)
	}},
	{"an unregistered app is unknown", func(t *testing.T, f *fixture) {
		for _, id := range append([]string{"wxunknown"}, hostile...) {
			p := leaseParams(newID(), t0)
			p.AppID = id
			_, granted, err := f.Store.LeasePlatformToken(t.Context(), p)
			wantCode(t, err, auth.AppUnknown)
			wantEqual(t, "granted", granted, false)
			kept, err := f.Store.PlatformToken(t.Context(), id)
			wantCode(t, err, "")
			wantEqual(t, "token", kept, accesstoken.Kept{})
		}
		wantEqual(t, "rows", f.number(t, `select count(*) from platform_tokens`), 0)
	}},
	{"one of many concurrent callers gets the lease", func(t *testing.T, f *fixture) {
		for range 20 {
			const callers = 10
			ids := make(chan uuid.UUID, callers)
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					id := newID()
					_, granted, err := f.Store.LeasePlatformToken(t.Context(), leaseParams(id, t0))
					if err != nil {
						t.Errorf("LeasePlatformToken() error = %v", err)
					}
					if granted {
						ids <- id
					}
				})
			}
			wg.Wait()
			if len(ids) != 1 {
				t.Fatalf("%d callers got the lease, want 1", len(ids))
			}
			wantEqual(t, "kept", f.keep(t, <-ids, platformToken), true)
		}
	}},
}
