package oauth

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/maypok86/otter/v2"

	"github.com/yufu-auth/yufu/pkg/token"
)

const (
	// Remembered is how long introspection remembers what it has read for a
	// session and a ver. What changes without raising ver shows after that.
	Remembered = time.Minute
	// maxMemo bounds how many sessions are remembered. With more the least busy
	// ones are read again.
	maxMemo = 1 << 14
	// memoTimeout bounds a read, for whoever waits for it.
	memoTimeout = 3 * time.Second
)

// memo remembers something that is read for a session, as of a ver: what raises
// ver makes it forgotten. A nil memo remembers nothing and must not be asked. It
// is safe for concurrent use.
type memo[V any] struct {
	read  func(ctx context.Context, c *token.Claims) (V, error)
	cache *otter.Cache[memoKey, V]
}

type memoKey struct {
	session uuid.UUID
	ver     int64
}

func newMemo[V any](read func(ctx context.Context, c *token.Claims) (V, error)) *memo[V] {
	return &memo[V]{
		read: read,
		cache: otter.Must(&otter.Options[memoKey, V]{
			MaximumSize:      maxMemo,
			ExpiryCalculator: otter.ExpiryWriting[memoKey, V](Remembered),
		}),
	}
}

// get returns what is known of the token's session, and reads it if need be,
// once however many ask. Errors are not remembered.
func (m *memo[V]) get(ctx context.Context, c *token.Claims) (V, error) {
	return m.cache.Get(ctx, memoKey{c.Session, c.Ver}, otter.LoaderFunc[memoKey, V](func(ctx context.Context, _ memoKey) (V, error) {
		// Others wait for it as well, so it goes on when the first is gone.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), memoTimeout)
		defer cancel()
		return m.read(ctx, c)
	}))
}

// close ends what the memo has running.
func (m *memo[V]) close() {
	if m != nil {
		m.cache.StopAllGoroutines()
	}
}
