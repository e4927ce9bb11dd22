package auth

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Replica is what a running service tells of itself in the database: to the
// other replicas, and to commands that must not work with settings of their own.
type Replica struct {
	// ID is new with every start.
	ID      uuid.UUID
	Version string
	Settings
	// Ready says whether it takes requests; Reason why not.
	Ready  bool
	Reason string
	// StartedAt and SeenAt are by the database's clock.
	StartedAt, SeenAt time.Time
}

// Settings are those of a service that must be alike everywhere. Durations are
// kept to the millisecond.
type Settings struct {
	Issuer        string
	JWKSMaxAge    time.Duration
	SessionMaxTTL time.Duration
	MaxStaleness  time.Duration
}

// ReplicaRetention is how long a replica that is no longer seen is remembered.
const ReplicaRetention = 25 * time.Hour

// ReplicaStore keeps replicas. Errors other than those of the context are
// [StorageUnavailable] or defects.
type ReplicaStore interface {
	// SaveReplica writes the replica's row, and removes the rows of those that
	// were last seen [ReplicaRetention] before r.SeenAt or earlier.
	SaveReplica(ctx context.Context, r Replica) error
	// Replicas returns all rows, the earliest start first.
	Replicas(ctx context.Context) ([]Replica, error)
}
