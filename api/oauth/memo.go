package oauth

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/maypok86/otter/v2"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/token"
)

const (
	// Remembered is how long introspection remembers what it has read for a
	// session and a ver. What changes without raising ver shows after that.
	Remembered = time.Minute
	// maxMemo bounds how many sessions are remembered. With more the least busy
	// ones are read again.
	maxMemo = 1 << 14
	// memoTimeout bounds a read, and with it the time that an introspection
	// waits for a database that does not answer.
	memoTimeout = time.Second
)

// memo remembers something that is read for a session, as of a ver: what raises
// ver makes it forgotten. It is safe for concurrent use.
type memo[V any] struct {
	// answering reports whether the database answers. When it does not, nothing
	// is read.
	answering func() bool
	read      func(ctx context.Context, c *token.Claims) (V, error)
	cache     *otter.Cache[memoKey, V]
}

type memoKey struct {
	session uuid.UUID
	ver     int64
}

func newMemo[V any](answering func() bool, read func(ctx context.Context, c *token.Claims) (V, error)) *memo[V] {
	return &memo[V]{
		answering: answering,
		read:      read,
		cache: otter.Must(&otter.Options[memoKey, V]{
			MaximumSize:      maxMemo,
			ExpiryCalculator: otter.ExpiryWriting[memoKey, V](Remembered),
		}),
	}
}

var (
	errAway    = errors.New("oauth: the database is known to be away")
	errTooLong = errors.New("oauth: the database did not answer in time")
)

// get returns what is known of the token's session, and reads it if need be,
// once however many ask. Errors are not remembered.
//
// Errors: [auth.StorageUnavailable] when it is not known and the database does
// not answer; those of reading.
func (m *memo[V]) get(ctx context.Context, c *token.Claims) (V, error) {
	key := memoKey{c.Session, c.Ver}
	if v, ok := m.cache.GetIfPresent(key); ok {
		return v, nil
	}
	var none V
	if !m.answering() {
		return none, &auth.Error{Code: auth.StorageUnavailable, Err: errAway}
	}
	return m.cache.Get(ctx, key, otter.LoaderFunc[memoKey, V](func(ctx context.Context, _ memoKey) (V, error) {
		// Others wait for it as well, so it goes on when the first is gone.
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), memoTimeout, errTooLong)
		defer cancel()
		v, err := m.read(ctx, c)
		switch {
		case err != nil && ctx.Err() != nil:
			return none, &auth.Error{Code: auth.StorageUnavailable, Err: context.Cause(ctx)}
		case err != nil:
			return none, err
		}
		return v, nil
	}))
}

// close ends what the memo has running.
func (m *memo[V]) close() { m.cache.StopAllGoroutines() }
