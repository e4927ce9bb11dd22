package oauth

import (
	"context"

	"github.com/yufu-auth/yufu/pkg/token"
)

// NewMemo returns a memo as the functions to ask and to close it.
func NewMemo[V any](answering func() bool, read func(ctx context.Context, c *token.Claims) (V, error)) (get func(context.Context, *token.Claims) (V, error), closeMemo func()) {
	m := newMemo(answering, read)
	return m.get, m.close
}
