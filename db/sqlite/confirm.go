package sqlite

import "context"

// Confirm implements [session.Store]. It has nothing to wait for. A commit becomes
// visible to readers only after its frames of the write-ahead log are on the disk
// (synchronous=FULL), so everything that can be read is durable. A commit that was
// interrupted earlier was never visible, and there is no standby.
func (s *Store) Confirm(ctx context.Context) error { return translate(ctx, "Confirm", ctx.Err()) }
