package platform

import "context"

type callerKey struct{}

// WithCaller returns a context with the caller of a provider: the network of the client,
// as rate limits count it. Providers and their guards may slow down one caller without
// affecting the others. They never send the caller to a platform.
func WithCaller(ctx context.Context, caller string) context.Context {
	return context.WithValue(ctx, callerKey{}, caller)
}

// CallerOf returns the caller of the context, or "" when it names none.
func CallerOf(ctx context.Context) string {
	caller, _ := ctx.Value(callerKey{}).(string)
	return caller
}

type checkKey struct{}

// WithCheck returns a context whose check runs once more right before a call goes out to
// the platform, after all waiting. If it returns an error, nothing is sent and the
// provider returns that error.
func WithCheck(ctx context.Context, check func() error) context.Context {
	return context.WithValue(ctx, checkKey{}, check)
}

// Check runs the context's check, if it has one.
func Check(ctx context.Context) error {
	if check, ok := ctx.Value(checkKey{}).(func() error); ok {
		return check()
	}
	return nil
}
