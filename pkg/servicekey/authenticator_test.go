package servicekey_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/servicekey"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a store of keys in memory that counts its calls and can fail.
type memory struct {
	mu                     sync.Mutex
	keys                   map[string]servicekey.Key
	reads, lookups, writes int
	down                   error
	// slow is the duration of a read.
	slow time.Duration
}

func (m *memory) AddServiceKey(context.Context, servicekey.Key, auth.AuditEvent) error {
	panic("the authenticator adds no key")
}

func (m *memory) RevokeServiceKey(context.Context, string, bool, auth.AuditEvent) (servicekey.Revocation, error) {
	panic("the authenticator revokes no key")
}

func (m *memory) FirstPinServiceKey(context.Context, string, auth.AuditEvent) (servicekey.Key, error) {
	panic("the authenticator pins no key")
}

func (m *memory) PinServiceKey(context.Context, string, string, func(servicekey.Key) error, auth.AuditEvent) (servicekey.Key, error) {
	panic("the authenticator pins no key")
}

func (m *memory) wait(ctx context.Context) error {
	m.mu.Lock()
	slow, down := m.slow, m.down
	m.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return down
}

func (m *memory) ServiceKeys(ctx context.Context) ([]servicekey.Key, error) {
	m.mu.Lock()
	m.reads++
	var all []servicekey.Key
	for _, k := range m.keys {
		all = append(all, k)
	}
	m.mu.Unlock()
	return all, m.wait(ctx)
}

func (m *memory) ServiceKey(ctx context.Context, id string) (servicekey.Key, error) {
	m.mu.Lock()
	m.lookups++
	k, ok := m.keys[id]
	m.mu.Unlock()
	if err := m.wait(ctx); err != nil {
		return servicekey.Key{}, err
	}
	if !ok {
		return servicekey.Key{}, auth.NotFound
	}
	return k, nil
}

func (m *memory) TouchServiceKey(ctx context.Context, id string, at time.Time) error {
	if err := m.wait(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes++
	k := m.keys[id]
	k.LastUsedAt = at
	m.keys[id] = k
	return nil
}

func (m *memory) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

// bench is an authenticator over a memory, in a bubble of testing/synctest.
type bench struct {
	*memory
	t    *testing.T
	auth *servicekey.Authenticator
}

func inBubble(t *testing.T, test func(t *testing.T, b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := &memory{keys: map[string]servicekey.Key{}}
		b := &bench{memory: m, t: t, auth: servicekey.NewAuthenticator(m, 0, time.Now, time.Now)}
		defer b.auth.Close()
		test(t, b)
	})
}

// add makes a key and returns its text.
func (b *bench) add() (id string, key auth.Secret) {
	b.t.Helper()
	k, p := servicekey.Generate(draft(b.t, "orders", []string{"service"}, nil), time.Now())
	b.set(func() { b.keys[k.ID] = k })
	return k.ID, p.Key()
}

func (b *bench) revoke(id string) {
	b.set(func() {
		k := b.keys[id]
		k.RevokedAt = time.Now()
		b.keys[id] = k
	})
}

// want checks the error code for a key.
func (b *bench) want(key auth.Secret, want auth.Code) servicekey.Key {
	b.t.Helper()
	k, err := b.auth.Authenticate(b.t.Context(), key)
	if got := auth.CodeOf(err); got != want {
		b.t.Fatalf("Authenticate() error = %v, want %q", err, want)
	}
	return k
}

func bogus(t *testing.T) auth.Secret {
	t.Helper()
	_, p := servicekey.Generate(draft(t, "x", []string{"service"}, nil), time.Now())
	return p.Key()
}

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	t.Run("a good key is authenticated", func(t *testing.T) {
		t.Parallel()
		inBubble(t, func(_ *testing.T, b *bench) {
			id, key := b.add()
			if k := b.want(key, ""); k.ID != id {
				t.Errorf("Authenticate() = key %s, want %s", k.ID, id)
			}
		})
	})
	t.Run("all invalid keys get the same error", func(t *testing.T) {
		t.Parallel()
		inBubble(t, func(t *testing.T, b *bench) {
			id, _ := b.add()
			revoked, revokedKey := b.add()
			b.revoke(revoked)
			other, err := servicekey.Parse(bogus(t))
			if err != nil {
				t.Fatal(err)
			}
			other.ID = id
			for _, key := range []auth.Secret{bogus(t), other.Key(), revokedKey, "garbage", ""} {
				k := b.want(key, auth.ServiceKeyInvalid)
				if k.ID != "" {
					t.Errorf("Authenticate() returns the refused key: %+v", k)
				}
			}
		})
	})
	t.Run("a new key works at once", func(t *testing.T) {
		t.Parallel()
		inBubble(t, func(_ *testing.T, b *bench) {
			_, first := b.add()
			b.want(first, "")
			_, second := b.add()
			b.want(second, "")
		})
	})
	t.Run("a key stops working at its expiry, even if the database is away", func(t *testing.T) {
		t.Parallel()
		inBubble(t, func(t *testing.T, b *bench) {
			id, key := b.add()
			b.set(func() {
				k := b.keys[id]
				k.ExpiresAt = time.Now().Add(10 * time.Second)
				b.keys[id] = k
			})
			b.want(key, "")
			b.set(func() { b.down = auth.StorageUnavailable })
			time.Sleep(10*time.Second - time.Nanosecond)
			b.want(key, "")
			time.Sleep(time.Nanosecond)
			b.want(key, auth.ServiceKeyInvalid)
		})
	})
	t.Run("a revoked key works for at most a second", func(t *testing.T) {
		t.Parallel()
		inBubble(t, func(_ *testing.T, b *bench) {
			id, key := b.add()
			b.want(key, "")
			b.revoke(id)
			time.Sleep(servicekey.FreshFor)
			b.want(key, auth.ServiceKeyInvalid)
		})
	})
	t.Run("a context that is done ends the wait", func(t *testing.T) {
		t.Parallel()
		inBubble(t, func(t *testing.T, b *bench) {
			_, key := b.add()
			b.set(func() { b.slow = time.Minute })
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			if _, err := b.auth.Authenticate(ctx, key); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error = %v, want %v", err, context.DeadlineExceeded)
			}
		})
	})
}

func TestFlood(t *testing.T) {
	t.Parallel()
	t.Run("a flood of good keys reads once a second", func(t *testing.T) {
		t.Parallel()
		inBubble(t, func(t *testing.T, b *bench) {
			b.set(func() { b.slow = 10 * time.Millisecond })
			_, key := b.add()
			for range 10 {
				var crowd sync.WaitGroup
				for range 100 {
					crowd.Go(func() { b.want(key, "") })
				}
				crowd.Wait()
				time.Sleep(100 * time.Millisecond)
			}
			synctest.Wait()
			if b.reads > 2 || b.lookups > 0 || b.writes != 1 {
				t.Errorf("too many calls in a second: %d reads, %d lookups and %d writes", b.reads, b.lookups, b.writes)
			}
		})
	})
	t.Run("a flood of bogus keys causes few queries and does not affect good keys", func(t *testing.T) {
		t.Parallel()
		inBubble(t, func(t *testing.T, b *bench) {
			_, before := b.add()
			b.want(before, "")
			for range 1000 {
				b.want(bogus(t), auth.ServiceKeyInvalid)
			}
			if b.reads+b.lookups > 25 {
				t.Errorf("%d reads and %d lookups", b.reads, b.lookups)
			}
			b.want(before, "")
			_, fresh := b.add()
			time.Sleep(servicekey.FreshFor)
			for range 100 {
				b.want(bogus(t), auth.ServiceKeyInvalid)
			}
			b.want(fresh, "")
		})
	})
}

func TestDatabaseDown(t *testing.T) {
	t.Parallel()
	down := &auth.Error{Code: auth.StorageUnavailable}
	for name, fail := range map[string]func(b *bench){
		"refuses": func(b *bench) { b.down = down },
		"hangs":   func(b *bench) { b.slow = time.Hour },
	} {
		t.Run("a database that "+name+" keeps the known keys valid for a minute", func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, b *bench) {
				id, key := b.add()
				revoked, revokedKey := b.add()
				b.revoke(revoked)
				b.want(key, "")
				b.set(func() { fail(b) })
				time.Sleep(servicekey.FreshFor)
				b.want(key, "") // after a wait, if it hangs
				for range 50 {
					began := time.Now()
					b.want(key, "")
					if time.Since(began) > 0 {
						t.Errorf("Authenticate() waited %s although the last read failed", time.Since(began))
					}
					time.Sleep(time.Second)
				}
				b.want(revokedKey, auth.ServiceKeyInvalid)
				b.want(bogus(t), auth.StorageUnavailable)
				time.Sleep(servicekey.StaleFor)
				b.want(key, auth.StorageUnavailable)

				b.revoke(id)
				b.set(func() { b.down, b.slow = nil, 0 })
				time.Sleep(10 * time.Second)
				b.want(key, auth.ServiceKeyInvalid)
			})
		})
	}
	t.Run("the known keys are valid for as long as validation works from memory", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			const maxStaleness = 5 * time.Minute
			m := &memory{keys: map[string]servicekey.Key{}}
			b := &bench{memory: m, t: t, auth: servicekey.NewAuthenticator(m, maxStaleness, time.Now, time.Now)}
			defer b.auth.Close()
			_, key := b.add()
			b.want(key, "")
			b.set(func() { b.down = down })
			time.Sleep(maxStaleness - time.Second)
			b.want(key, "")
			time.Sleep(time.Second)
			b.want(key, auth.StorageUnavailable)
		})
	})
	t.Run("a failing database is not queried in a loop", func(t *testing.T) {
		t.Parallel()
		inBubble(t, func(t *testing.T, b *bench) {
			b.set(func() { b.down = down })
			for range 1000 {
				b.want(bogus(t), auth.StorageUnavailable)
			}
			if b.reads+b.lookups > 2 {
				t.Errorf("%d reads and %d lookups", b.reads, b.lookups)
			}
		})
	})
}

func TestClocks(t *testing.T) {
	t.Parallel()
	open := func(t *testing.T) (b *bench, dbAhead *time.Duration) {
		m := &memory{keys: map[string]servicekey.Key{}}
		dbAhead = new(time.Duration)
		b = &bench{memory: m, t: t, auth: servicekey.NewAuthenticator(m, 0, time.Now, func() time.Time { return time.Now().Add(*dbAhead) })}
		t.Cleanup(b.auth.Close)
		return b, dbAhead
	}
	t.Run("a key expires by the database's clock, and its last use has that time", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			b, dbAhead := open(t)
			*dbAhead = -time.Hour
			id, key := b.add()
			b.set(func() {
				k := b.keys[id]
				k.ExpiresAt = time.Now().Add(-time.Minute)
				b.keys[id] = k
			})
			b.want(key, "")
			synctest.Wait()
			if at := b.keys[id].LastUsedAt; !at.Equal(time.Now().Add(*dbAhead)) {
				t.Errorf("last use = %v, want %v", at, time.Now().Add(*dbAhead))
			}
			*dbAhead = 0
			b.want(key, auth.ServiceKeyInvalid)
		})
	})
	t.Run("a revoked key is refused within a second even if the database's clock is set", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			b, dbAhead := open(t)
			id, key := b.add()
			b.want(key, "")
			b.set(func() { b.down = auth.StorageUnavailable })
			time.Sleep(2 * time.Second)
			b.want(key, "") // by the keys in memory
			synctest.Wait()
			*dbAhead = -time.Hour // another server took over
			b.set(func() { b.down = nil })
			b.revoke(id)
			time.Sleep(servicekey.FreshFor)
			b.want(key, "") // and a read begins
			synctest.Wait()
			b.want(key, auth.ServiceKeyInvalid)
		})
	})
}

func TestLastUse(t *testing.T) {
	t.Parallel()
	t.Run("the last use is written once a minute", func(t *testing.T) {
		t.Parallel()
		inBubble(t, func(t *testing.T, b *bench) {
			id, key := b.add()
			began := time.Now()
			for range 10 * 60 {
				b.want(key, "")
				time.Sleep(time.Second)
			}
			synctest.Wait()
			if b.writes < 9 || b.writes > 10 {
				t.Errorf("%d writes in ten minutes, want 9 or 10", b.writes)
			}
			if at := b.keys[id].LastUsedAt; at.Before(began.Add(8 * time.Minute)) {
				t.Errorf("last use = %s after the start, want at least 8m", at.Sub(began))
			}
		})
	})
	t.Run("the last use of a refused key is not written", func(t *testing.T) {
		t.Parallel()
		inBubble(t, func(t *testing.T, b *bench) {
			id, key := b.add()
			b.revoke(id)
			b.want(key, auth.ServiceKeyInvalid)
			synctest.Wait()
			if b.writes != 0 {
				t.Errorf("%d writes, want 0", b.writes)
			}
		})
	})
	t.Run("the write does not delay the request and ends with the authenticator", func(t *testing.T) {
		t.Parallel()
		inBubble(t, func(t *testing.T, b *bench) {
			_, key := b.add()
			b.want(key, "")
			synctest.Wait()
			time.Sleep(2 * time.Minute)
			b.want(key, "")
			b.set(func() { b.slow = time.Hour })
			began := time.Now()
			b.want(key, "")
			b.auth.Close()
			if waited := time.Since(began); waited > 0 {
				t.Errorf("Authenticate() waited %s, want no wait", waited)
			}
		})
	})
}
