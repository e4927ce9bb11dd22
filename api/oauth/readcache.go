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
	// CacheTTL is how long introspection remembers data of a session and a ver. A
	// change that does not raise ver shows after that time.
	CacheTTL = time.Minute
	// maxCached bounds the number of remembered sessions. Beyond it, the least used
	// ones are read again.
	maxCached = 1 << 14
	// readTimeout bounds a read, and with it the time that an introspection
	// waits for a database that does not answer.
	readTimeout = time.Second
)

// readCache remembers a value that was read for a session and a ver. A higher ver is
// read again. It is safe for concurrent use.
type readCache[V any] struct {
	// answering reports whether the database answers. When it does not, nothing
	// is read.
	answering func() bool
	read      func(ctx context.Context, c *token.Claims) (V, error)
	cache     *otter.Cache[readCacheKey, V]
}

type readCacheKey struct {
	session uuid.UUID
	ver     int64
}

func newReadCache[V any](answering func() bool, read func(ctx context.Context, c *token.Claims) (V, error)) *readCache[V] {
	return &readCache[V]{
		answering: answering,
		read:      read,
		cache: otter.Must(&otter.Options[readCacheKey, V]{
			MaximumSize:      maxCached,
			ExpiryCalculator: otter.ExpiryWriting[readCacheKey, V](CacheTTL),
		}),
	}
}

var (
	errDatabaseAway = errors.New("oauth: the database is known to be unavailable")
	errReadTimeout  = errors.New("oauth: the database did not answer in time")
)

// get returns the value for the token's session, and reads it if needed, once for all
// concurrent callers. Errors are not remembered.
//
// Errors: [auth.StorageUnavailable] when the value is not known and the database does
// not answer; the errors of read.
func (m *readCache[V]) get(ctx context.Context, c *token.Claims) (V, error) {
	key := readCacheKey{c.Session, c.Ver}
	if v, ok := m.cache.GetIfPresent(key); ok {
		return v, nil
	}
	var none V
	if !m.answering() {
		return none, &auth.Error{Code: auth.StorageUnavailable, Err: errDatabaseAway}
	}
	return m.cache.Get(ctx, key, otter.LoaderFunc[readCacheKey, V](func(ctx context.Context, _ readCacheKey) (V, error) {
		// Other callers wait for the same read, so it outlives the first caller.
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), readTimeout, errReadTimeout)
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

// close stops the goroutines of the cache.
func (m *readCache[V]) close() { m.cache.StopAllGoroutines() }
