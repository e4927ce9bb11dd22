package storetest

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
)

// attemptKeys returns the keys of an identity, a value and an address.
func attemptKeys() []auth.AttemptKey {
	return []auth.AttemptKey{auth.IdentityAttempts(newID()), auth.ValueAttempts(mac(1)), auth.AddressAttempts("192.0.2.1/32", appA)}
}

func (f *fixture) reserve(t testing.TB, keys []auth.AttemptKey, now time.Time) binding.Reservation {
	t.Helper()
	r, err := f.Store.Reserve(t.Context(), keys, now, event("", now))
	if err != nil {
		t.Errorf("Reserve() error = %v", err)
	}
	return r
}

// fail makes n attempts that must not be delayed.
func (f *fixture) fail(t testing.TB, keys []auth.AttemptKey, now time.Time, n int) (last binding.Reservation) {
	t.Helper()
	for range n {
		if last = f.reserve(t, keys, now); last.Wait != 0 {
			t.Fatalf("an attempt has to wait for %s", last.Wait)
		}
	}
	return last
}

func (f *fixture) wait(t testing.TB, keys []auth.AttemptKey, now time.Time, want time.Duration) {
	t.Helper()
	if r := f.reserve(t, keys, now); r.Wait != want || len(r.Counted) != 0 {
		t.Fatalf("Reserve() = wait %s, counted %v; want to wait for %s and count nothing", r.Wait, r.Counted, want)
	}
}

var attemptTests = []test{
	{"five attempts are free, then the delay doubles up to 15 minutes", func(t *testing.T, f *fixture) {
		keys := attemptKeys()
		before := f.counts(t)
		f.fail(t, keys, t0, 5)
		f.wantCounts(t, before, counts{Audit: 2}) // an identity's delay and a value's
		now := t0
		for _, d := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 15 * time.Minute, 15 * time.Minute} {
			f.wait(t, keys, now, d)
			f.wait(t, keys, now.Add(d-time.Microsecond), time.Microsecond)
			now = now.Add(d)
			f.fail(t, keys, now, 1)
		}
		if detail := f.text(t, `select detail from audit where action = 'binding.delayed' order by id desc limit 1`); !containsAll(detail, `"value"`, "900", "10") {
			t.Errorf("audit detail = %s", detail)
		}
	}},
	{"a delayed attempt is not counted", func(t *testing.T, f *fixture) {
		keys := attemptKeys()
		f.fail(t, keys[:1], t0, 5)
		before := f.counts(t)
		f.wait(t, keys, t0, 30*time.Second)
		f.wantCounts(t, before, counts{})
		wantEqual(t, "counters", f.number(t, `select count(*) from bind_attempts`), 1)
		f.fail(t, keys[1:], t0, 5)
	}},
	{"the longest delay applies", func(t *testing.T, f *fixture) {
		keys := attemptKeys()
		f.fail(t, keys[:1], t0, 5)
		f.fail(t, keys[1:2], t0.Add(20*time.Second), 5)
		f.wait(t, keys, t0.Add(20*time.Second), 30*time.Second)
	}},
	{"an address has 50 attempts per app, then one per second", func(t *testing.T, f *fixture) {
		address := attemptKeys()[2:]
		before := f.counts(t)
		f.fail(t, address, t0, 50)
		now := t0
		for range 30 {
			f.wait(t, address, now, time.Second)
			now = now.Add(time.Second)
			f.fail(t, address, now, 1)
		}
		f.wantCounts(t, before, counts{Audit: 1})
		f.fail(t, []auth.AttemptKey{auth.AddressAttempts("192.0.2.1/32", appB)}, t0, 50)
		f.wait(t, address, t0.Add(-time.Hour), time.Second) // the clock was set back
	}},
	{"failures expire one by one", func(t *testing.T, f *fixture) {
		keys := attemptKeys()[:1]
		f.fail(t, keys, t0, 5)
		f.fail(t, keys, t0.Add(2*time.Hour), 2)
		f.wait(t, keys, t0.Add(2*time.Hour), 30*time.Second)
		f.fail(t, keys, t0.Add(24*time.Hour), 5)
	}},
	{"a clock that was set back removes no failure and causes no long delay", func(t *testing.T, f *fixture) {
		keys := attemptKeys()[:1]
		f.fail(t, keys, t0, 5)
		f.wait(t, keys, t0.Add(-time.Hour), 15*time.Minute)
	}},
	{"a refund removes one attempt and the delay that it started", func(t *testing.T, f *fixture) {
		keys := attemptKeys()
		first := f.fail(t, keys, t0, 1)
		f.fail(t, keys, t0, 3)
		fifth := f.fail(t, keys, t0, 1)
		f.wait(t, keys, t0, 30*time.Second)
		wantCode(t, f.Store.Refund(t.Context(), fifth), "")
		f.fail(t, keys, t0, 1)
		f.wait(t, keys, t0, 30*time.Second)
		wantCode(t, f.Store.Refund(t.Context(), first), "")
		f.fail(t, keys, t0, 1)
		f.wait(t, keys, t0, 30*time.Second)
	}},
	{"a refund beyond the free attempts keeps the delay of another attempt", func(t *testing.T, f *fixture) {
		keys := attemptKeys()[:1]
		f.fail(t, keys, t0, 4)
		fifth := f.fail(t, keys, t0, 1)
		sixth := f.fail(t, keys, t0.Add(time.Minute), 1)
		wantCode(t, f.Store.Refund(t.Context(), fifth), "")
		f.wait(t, keys, t0.Add(time.Minute), time.Minute)
		wantCode(t, f.Store.Refund(t.Context(), sixth), "")
		f.fail(t, keys, t0.Add(time.Minute), 1)
	}},
	{"a refund of a deleted counter is no error", func(t *testing.T, f *fixture) {
		r := f.fail(t, attemptKeys(), t0, 1)
		f.exec(t, `delete from bind_attempts`)
		wantCode(t, f.Store.Refund(t.Context(), r), "")
		wantCode(t, f.Store.Refund(t.Context(), binding.Reservation{}), "")
	}},
	{"expired counters are deleted", func(t *testing.T, f *fixture) {
		f.fail(t, attemptKeys(), t0, 3)
		for _, c := range []struct {
			after time.Duration
			gone  int
		}{{3 * time.Minute, 0}, {3*time.Minute + 1000, 1}, {3 * time.Hour, 0}, {3*time.Hour + 1000, 2}} {
			n, err := f.Store.DeleteExpired(t.Context(), t0, t0.Add(c.after), 10)
			wantCode(t, err, "")
			wantEqual(t, "gone after "+c.after.String(), n, c.gone)
		}
	}},
	{"of 300 concurrent guesses at most five pass", func(t *testing.T, f *fixture) {
		var through atomic.Int32
		value := auth.ValueAttempts(mac(1))
		together(300, func(int) {
			if r := f.reserve(t, []auth.AttemptKey{value, auth.IdentityAttempts(newID())}, t0); r.Wait == 0 {
				through.Add(1)
			}
		})
		wantEqual(t, "attempts that passed", through.Load(), 5)
		wantEqual(t, "counters of identities", f.number(t, `select count(*) from bind_attempts where kind = 'identity'`), 5)
	}},
	{"a refusal is audited", func(t *testing.T, f *fixture) {
		before := f.counts(t)
		wantCode(t, f.Store.RecordRefusal(t.Context(), event(auth.AuditBindingRefused, t0)), "")
		f.wantCounts(t, before, counts{Audit: 1})
	}},
}
