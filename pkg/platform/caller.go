package platform

import "context"

type callerKey struct{}

// WithCaller returns a context that says on whose behalf a provider is called:
// the network of the client, as limits count it. Providers and what stands
// before them may hold one caller back for what he did, without punishing the
// others; they never send it anywhere.
func WithCaller(ctx context.Context, caller string) context.Context {
	return context.WithValue(ctx, callerKey{}, caller)
}

// CallerOf returns the caller of the context, or "" when it names none.
func CallerOf(ctx context.Context) string {
	caller, _ := ctx.Value(callerKey{}).(string)
	return caller
}
