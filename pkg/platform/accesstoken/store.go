package accesstoken

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Kept is an app's token at rest. The zero value is none.
type Kept struct {
	// Sealed is the token, sealed for its row.
	Sealed []byte
	// ExpiresAt is when the platform will refuse it.
	ExpiresAt time.Time
}

// LeaseParams ask for the right to renew an app's token.
type LeaseParams struct {
	AppID string
	// Lease names whoever asks.
	Lease uuid.UUID
	// Now is the time, and Until when the lease ends by itself.
	Now, Until time.Time
}

// ForceParams announce that the platform will be made to issue another token.
type ForceParams struct {
	AppID string
	// Lease must be the one that is held.
	Lease uuid.UUID
	Now   time.Time
	// Every is the least time since the last announcement.
	Every time.Duration
	// Day names the day as the platform counts it, and PerDay is how many
	// announcements it may have.
	Day    string
	PerDay int
}

// Store is what a [Holder] needs of a database. Every method is committed when it
// returns, and returns auth.StorageUnavailable when the database does not answer.
type Store interface {
	// PlatformToken returns the app's token, or the zero [Kept] when there is
	// none.
	PlatformToken(ctx context.Context, appID string) (Kept, error)

	// LeasePlatformToken grants the app's lease unless somebody else holds one
	// that has not ended, and returns the token as it is after that. Of any number
	// of callers at once one is granted it. It returns auth.AppUnknown when the
	// app is not registered.
	LeasePlatformToken(ctx context.Context, p LeaseParams) (kept Kept, granted bool, err error)

	// ForcePlatformToken notes the announcement and returns true; or changes
	// nothing and returns false when the lease is not held, the last announcement
	// is too young, or the day has had its number of them.
	ForcePlatformToken(ctx context.Context, p ForceParams) (bool, error)

	// KeepPlatformToken replaces the token and ends the lease; or changes nothing
	// and returns false when the lease is not held, because it ended and somebody
	// else took it.
	KeepPlatformToken(ctx context.Context, appID string, lease uuid.UUID, token Kept) (bool, error)

	// EndPlatformTokenLease ends the lease, if it is the one that is held.
	EndPlatformTokenLease(ctx context.Context, appID string, lease uuid.UUID) error
}
