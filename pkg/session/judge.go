package session

import (
	"errors"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// Verdict is what a presented generation means for a live session.
type Verdict int

// The verdicts.
const (
	// Rotate: the presented generation is the row's; move one forward.
	Rotate Verdict = iota
	// Replay: the row is one ahead, and the window is open: the answer
	// was lost, or two requests raced. Give the same successor again.
	Replay
	// RolledBack: the presented generation is ahead of the row. The token has
	// our MAC, so the store lost commits (fail-over, restore): accept the token and
	// move one forward.
	RolledBack
	// ReplayLate: the row is one ahead, and the window is over. The sender may be
	// a phone that slept or a thief; end the session.
	ReplayLate
	// Reuse: the row is two or more ahead. Theft; end the session.
	Reuse
)

var verdictNames = [...]string{"rotated", "replayed", "rolled_back", "replay_late", "reuse"}

// String returns the name of the verdict in metrics and logs.
func (v Verdict) String() string { return verdictNames[v] }

// The causes under [auth.RefreshReused]: which of the two verdicts ended the
// session.
var (
	ErrReplayLate = errors.New("session: previous refresh token replayed after the grace window")
	ErrReuse      = errors.New("session: old refresh token replayed")
)

// Refusal returns the error of a verdict that ends the session, and nil for any other
// verdict.
func (v Verdict) Refusal() error {
	switch v {
	case ReplayLate:
		return &auth.Error{Code: auth.RefreshReused, Err: ErrReplayLate}
	case Reuse:
		return &auth.Error{Code: auth.RefreshReused, Err: ErrReuse}
	default:
		return nil
	}
}

// Judge returns the verdict on a generation that is presented for the session s. The
// window is fixed: it opens at the first rotation and never slides.
func Judge(s *auth.Session, presented uint32, now time.Time, grace time.Duration) Verdict {
	switch {
	case presented == s.Generation:
		return Rotate
	case presented > s.Generation:
		return RolledBack
	case presented+1 < s.Generation:
		return Reuse
	case now.After(s.RotatedAt.Add(grace)):
		return ReplayLate
	default:
		return Replay
	}
}

// RefreshError returns why no token of the session may be refreshed, whatever its
// generation: [auth.AppDisabled], [auth.RefreshInvalid] when it belongs to
// another app than appID, [auth.SessionRevoked], [auth.RefreshExpired], or nil
// when it is live.
func (st *State) RefreshError(appID string, now time.Time) error {
	s := &st.Session
	switch {
	case s.AppID != appID:
		return auth.RefreshInvalid
	case st.AppDisabled:
		return auth.AppDisabled
	case !s.EndedAt.IsZero(), s.Epoch < st.AppEpoch:
		return auth.SessionRevoked
	case !now.Before(s.ExpiresAt), !now.Before(s.IdleExpiresAt):
		return auth.RefreshExpired
	}
	return nil
}

// IdleExpiry returns the idle expiry of a session that is refreshed or started at now:
// idle later, but not after its absolute expiry.
func IdleExpiry(now time.Time, idle time.Duration, absolute time.Time) time.Time {
	if t := now.Add(idle); t.Before(absolute) {
		return t
	}
	return absolute
}
