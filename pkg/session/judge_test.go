package session_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
)

var noon = time.Date(2026, 7, 1, 12, 0, 0, 123456000, time.UTC)

func TestJudge(t *testing.T) {
	t.Parallel()
	const grace = time.Minute
	for name, tc := range map[string]struct {
		row, presented uint32
		since          time.Duration // since the rotation
		grace          time.Duration
		want           session.Verdict
	}{
		"the row's own generation rotates":                       {7, 7, time.Hour, grace, session.Rotate},
		"the row's own generation rotates at once":               {7, 7, 0, grace, session.Rotate},
		"the first generation rotates":                           {1, 1, 0, grace, session.Rotate},
		"one behind, in the moment of the rotation, is a replay": {7, 6, 0, grace, session.Replay},
		"one behind, inside the window, is a replay":             {7, 6, 59 * time.Second, grace, session.Replay},
		"one behind, at the end of the window, is a replay":      {7, 6, grace, grace, session.Replay},
		"one behind, just after the window, is late":             {7, 6, grace + time.Microsecond, grace, session.ReplayLate},
		"one behind, a month after, is late":                     {7, 6, 30 * 24 * time.Hour, grace, session.ReplayLate},
		"one behind, by a clock that is behind, is a replay":     {7, 6, -2 * time.Second, grace, session.Replay},
		"one behind, of a rotation in the future, is a replay":   {7, 6, -365 * 24 * time.Hour, grace, session.Replay},
		"even without a window":                                  {7, 6, -time.Microsecond, 0, session.Replay},
		"two behind, of a rotation in the future, is reuse":      {7, 5, -time.Hour, grace, session.Reuse},
		"one behind in a window without end is a replay":         {7, 6, 100 * 365 * 24 * time.Hour, math.MaxInt64, session.Replay},
		"two behind in a window without end is reuse":            {7, 5, time.Second, math.MaxInt64, session.Reuse},
		"without a window the moment of the rotation is in it":   {7, 6, 0, 0, session.Replay},
		"without a window anything later is late":                {7, 6, time.Microsecond, 0, session.ReplayLate},
		"two behind is reuse, even inside the window":            {7, 5, 0, grace, session.Reuse},
		"the first generation long after is reuse":               {math.MaxUint32, 1, time.Hour, grace, session.Reuse},
		"one ahead is a store that was rolled back":              {7, 8, 0, grace, session.RolledBack},
		"far ahead is a store that was rolled back":              {1, math.MaxUint32 - 1, time.Hour, grace, session.RolledBack},
		"the last generations do not overflow":                   {math.MaxUint32, math.MaxUint32 - 1, 0, grace, session.Replay},
		"two behind the last generation is reuse":                {math.MaxUint32, math.MaxUint32 - 2, 0, grace, session.Reuse},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &auth.Session{Generation: tc.row, RotatedAt: noon}
			got := session.Judge(s, tc.presented, noon.Add(tc.since), tc.grace)
			if got != tc.want {
				t.Errorf("Judge() = %v, want %v", got, tc.want)
			}
		})
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	for v, want := range map[session.Verdict]struct {
		name    string
		accepts bool
		cause   error
	}{
		session.Rotate:     {"rotated", true, nil},
		session.Replay:     {"replayed", true, nil},
		session.RolledBack: {"rolled_back", true, nil},
		session.ReplayLate: {"replay_late", false, session.ErrReplayLate},
		session.Reuse:      {"reuse", false, session.ErrReuse},
	} {
		if v.String() != want.name {
			t.Errorf("Verdict(%v).String() = %q, want %q", int(v), v, want.name)
		}
		refusal := v.Refusal()
		if (refusal == nil) != want.accepts || !errors.Is(refusal, want.cause) {
			t.Errorf("%v.Refusal() = %v, want %v", v, refusal, want.cause)
		}
		if !want.accepts && !errors.Is(refusal, auth.RefreshReused) {
			t.Errorf("%v.Refusal() = %v, want refresh_reused", v, refusal)
		}
	}
}

func TestRefreshError(t *testing.T) {
	t.Parallel()
	live := func() *session.State {
		return &session.State{
			Session: auth.Session{
				AppID: "wx1", Epoch: 2, IdleExpiresAt: noon.Add(time.Hour), ExpiresAt: noon.Add(24 * time.Hour),
			},
			AppEpoch: 2,
		}
	}
	for name, tc := range map[string]struct {
		change func(*session.State)
		want   error
	}{
		"a live session":                            {func(*session.State) {}, nil},
		"the last moment before it is idle":         {func(st *session.State) { st.Session.IdleExpiresAt = noon.Add(time.Microsecond) }, nil},
		"idle from this moment on":                  {func(st *session.State) { st.Session.IdleExpiresAt = noon }, auth.RefreshExpired},
		"the last moment of all":                    {func(st *session.State) { st.Session.ExpiresAt = noon.Add(time.Microsecond) }, nil},
		"over from this moment on":                  {func(st *session.State) { st.Session.ExpiresAt = noon }, auth.RefreshExpired},
		"ended":                                     {func(st *session.State) { st.Session.EndedAt = noon.Add(-time.Hour) }, auth.SessionRevoked},
		"ended by a clock that is ahead":            {func(st *session.State) { st.Session.EndedAt = noon.Add(time.Second) }, auth.SessionRevoked},
		"below its app's epoch":                     {func(st *session.State) { st.AppEpoch = 3 }, auth.SessionRevoked},
		"above its app's epoch, as after a restore": {func(st *session.State) { st.AppEpoch = 1 }, nil},
		"its app is disabled":                       {func(st *session.State) { st.AppDisabled = true }, auth.AppDisabled},
		"another app's":                             {func(st *session.State) { st.Session.AppID = "wx2" }, auth.RefreshInvalid},
		"ended and expired is ended":                {func(st *session.State) { st.Session.EndedAt, st.Session.ExpiresAt = noon, noon }, auth.SessionRevoked},
		"another app's, whatever else is wrong":     {func(st *session.State) { st.Session.AppID, st.Session.EndedAt, st.AppDisabled = "wx2", noon, true }, auth.RefreshInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st := live()
			tc.change(st)
			if got := st.RefreshError("wx1", noon); !errors.Is(got, tc.want) || (got == nil) != (tc.want == nil) {
				t.Errorf("RefreshError() = %v, want %v", got, tc.want)
			}
		})
	}
}

func TestIdleExpiry(t *testing.T) {
	t.Parallel()
	end := noon.Add(180 * 24 * time.Hour)
	for name, tc := range map[string]struct {
		now  time.Time
		idle time.Duration
		want time.Time
	}{
		"idle later while there is time":       {noon, time.Hour, noon.Add(time.Hour)},
		"never after the absolute expiry":      {end.Add(-time.Minute), time.Hour, end},
		"both at once":                         {end.Add(-time.Hour), time.Hour, end},
		"the absolute expiry once it has been": {end.Add(time.Hour), time.Hour, end},
		"as long as the session may live":      {noon, 180 * 24 * time.Hour, end},
	} {
		if got := session.IdleExpiry(tc.now, tc.idle, end); !got.Equal(tc.want) {
			t.Errorf("%s: IdleExpiry() = %v, want %v", name, got, tc.want)
		}
	}
}

func TestLifetimes(t *testing.T) {
	t.Parallel()
	day := 24 * time.Hour
	for name, good := range map[string]session.Lifetimes{
		"the defaults":                   session.DefaultLifetimes,
		"no grace":                       {Grace: 0, Idle: time.Hour, Max: day},
		"the longest grace":              {Grace: 10 * time.Minute, Idle: time.Hour, Max: day},
		"the shortest of all":            {Grace: 0, Idle: time.Second, Max: time.Second},
		"idle as long as absolute":       {Grace: time.Minute, Idle: day, Max: day},
		"five years":                     {Grace: time.Minute, Idle: day, Max: 5 * 365 * day},
		"grace a moment shorter than it": {Grace: time.Minute, Idle: time.Minute + 1, Max: day},
	} {
		if err := good.Check(); err != nil {
			t.Errorf("%s: error = %v", name, err)
		}
	}
	for name, tc := range map[string]struct {
		l    session.Lifetimes
		want string
	}{
		"a negative grace":              {session.Lifetimes{Grace: -1, Idle: time.Hour, Max: day}, "grace"},
		"a grace beyond ten minutes":    {session.Lifetimes{Grace: 10*time.Minute + 1, Idle: time.Hour, Max: day}, "grace"},
		"a grace as long as idle":       {session.Lifetimes{Grace: time.Minute, Idle: time.Minute, Max: day}, "grace"},
		"no idle lifetime":              {session.Lifetimes{Max: day}, "idle"},
		"an idle lifetime below 1 s":    {session.Lifetimes{Idle: time.Second - 1, Max: day}, "idle"},
		"idle longer than absolute":     {session.Lifetimes{Idle: 2 * day, Max: day}, "absolute"},
		"no absolute lifetime":          {session.Lifetimes{Idle: time.Hour}, "absolute"},
		"a negative absolute lifetime":  {session.Lifetimes{Idle: time.Hour, Max: -day}, "absolute"},
		"an absolute one of six years":  {session.Lifetimes{Idle: time.Hour, Max: 6 * 365 * day}, "absolute"},
		"nothing at all is no lifetime": {session.Lifetimes{}, "idle"},
	} {
		err := tc.l.Check()
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: Check() error = %v, want one about the %s lifetime", name, err, tc.want)
		}
		if _, serviceErr := session.NewService(session.Config{Lifetimes: tc.l}); serviceErr == nil {
			t.Errorf("%s: NewService() error = nil, want an error", name)
		}
	}
}
