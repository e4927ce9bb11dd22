package accesstoken

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Kept is an app's stored token. The zero value means no token.
type Kept struct {
	// Sealed is the token, sealed for its row.
	Sealed []byte
	// ExpiresAt is when the token expires at the platform.
	ExpiresAt time.Time
}

// LeaseParams are the parameters of a request for the right to renew an app's token.
type LeaseParams struct {
	AppID string
	// Lease identifies the caller.
	Lease uuid.UUID
	// Now is the current time, and Until is when the lease ends by itself.
	Now, Until time.Time
}

// ForceParams announce that the platform will be made to issue a new token.
type ForceParams struct {
	AppID string
	// Lease must be the current lease.
	Lease uuid.UUID
	Now   time.Time
	// Every is the shortest time since the last announcement.
	Every time.Duration
	// Day names the day in the platform's calendar, and PerDay is the maximum number of
	// announcements on it.
	Day    string
	PerDay int
}

// Store is the part of the database that a [Holder] uses. Every method is committed when
// it returns, and returns auth.StorageUnavailable when the database does not answer.
type Store interface {
	// PlatformToken returns the app's token, or the zero [Kept] without one.
	PlatformToken(ctx context.Context, appID string) (Kept, error)

	// LeasePlatformToken grants the app's lease unless another caller holds one that has
	// not ended, and returns the token as it is after that. Of any number of concurrent
	// callers, one gets the lease. It returns auth.AppUnknown when the app is not
	// registered.
	LeasePlatformToken(ctx context.Context, p LeaseParams) (kept Kept, granted bool, err error)

	// ForcePlatformToken records the announcement and returns true. It changes nothing
	// and returns false if the lease is not held, the last announcement is too recent, or
	// the day's maximum is reached.
	ForcePlatformToken(ctx context.Context, p ForceParams) (bool, error)

	// KeepPlatformToken replaces the token and ends the lease. It changes nothing and
	// returns false if the lease is not held, because it ended and another caller took
	// it.
	KeepPlatformToken(ctx context.Context, appID string, lease uuid.UUID, token Kept) (bool, error)

	// EndPlatformTokenLease ends the lease if it is the current one.
	EndPlatformTokenLease(ctx context.Context, appID string, lease uuid.UUID) error
}
