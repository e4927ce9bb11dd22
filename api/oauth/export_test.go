package oauth

import (
	"context"

	"github.com/yufu-auth/yufu/pkg/token"
)

// NewReadCache returns the functions to ask and to close a read cache.
func NewReadCache[V any](answering func() bool, read func(ctx context.Context, c *token.Claims) (V, error)) (get func(context.Context, *token.Claims) (V, error), closeMemo func()) {
	m := newReadCache(answering, read)
	return m.get, m.close
}
