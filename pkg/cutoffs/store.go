package cutoffs

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// Store is the part of a database that a follower needs.
type Store interface {
	// Cutoffs returns at most limit cutoffs with an id greater than after, in order
	// of their ids, as a writable primary has them now: all that were committed
	// before the call, unless there are more than limit.
	// With synchronous replication it waits until the standby confirms that the
	// server is still the primary. It is the only query of an idle replica, once a
	// second, so the answer also says whether the keys or the apps have changed.
	//
	// Errors: [auth.StorageUnavailable], also when the server is a standby, when
	// the standby did not confirm, and when connections lead to two primaries; or
	// the context's.
	Cutoffs(ctx context.Context, after int64, limit int) (Batch, error)

	// Listen calls wake when it begins to listen, and after every commit that wrote a
	// cutoff or changed the keys that sign, until ctx is done or the connection
	// is lost. It returns the reason. It detects a connection that died silently
	// within seconds. Calls of wake may be missing or superfluous.
	Listen(ctx context.Context, wake func()) error
}

// Batch is an answer of [Store.Cutoffs].
type Batch struct {
	// Timeline names the timeline that the ids belong to: [0-9A-Za-z]{1,64}.
	// A restart, a fail-over and a restore may begin another one. Two timelines in
	// which an id means different cutoffs have different names, as far as the
	// database can tell them apart.
	Timeline string
	// Deployment is the random id that the migration gave the database. A copy of the
	// database has the same id.
	Deployment uuid.UUID
	// Now is the time by the database's clock, read while it answered.
	Now time.Time
	// Keys is what [keyring.Store.KeysVersion] returns. Apps names the state of the
	// registered apps in the same way.
	Keys, Apps string
	// Last is at least the greatest id that was ever committed in the timeline.
	Last int64
	// Cutoffs are in order of their ids, which are positive.
	Cutoffs []auth.Cutoff
}
