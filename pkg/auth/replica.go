package auth

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Replica is the row that a running service writes about itself: for the other
// replicas, and for commands that must use the settings of the service.
type Replica struct {
	// ID is new at every start.
	ID      uuid.UUID
	Version string
	Settings
	// MasterKey is the fingerprint of the master key with which the replica seals.
	MasterKey string
	// Ready says whether the replica takes requests, and Reason why not.
	Ready  bool
	Reason string
	// StartedAt and SeenAt are by the database's clock.
	StartedAt, SeenAt time.Time
}

// Settings are the settings that must be the same on all replicas. Durations are
// stored with millisecond precision.
type Settings struct {
	Issuer        string
	JWKSMaxAge    time.Duration
	SessionMaxTTL time.Duration
	MaxStaleness  time.Duration
}

// ReplicaRetention is how long the row of a replica is kept after it was last seen.
const ReplicaRetention = 25 * time.Hour

// ReplicaStore keeps replicas. Errors other than those of the context are
// [StorageUnavailable] or defects.
type ReplicaStore interface {
	// SaveReplica writes the replica's row, and deletes the rows of replicas that
	// were last seen [ReplicaRetention] before r.SeenAt or earlier.
	SaveReplica(ctx context.Context, r Replica) error
	// Replicas returns all rows, the earliest start first.
	Replicas(ctx context.Context) ([]Replica, error)
}
