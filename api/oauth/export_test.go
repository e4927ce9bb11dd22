package oauth

import (
	"context"

	"github.com/yufu-auth/yufu/pkg/token"
)

// NewReadCache returns the get and close functions of a read cache.
func NewReadCache[V any](answering func() bool, read func(ctx context.Context, c *token.Claims) (V, error)) (get func(context.Context, *token.Claims) (V, error), closeCache func()) {
	m := newReadCache(answering, read)
	return m.get, m.close
}
