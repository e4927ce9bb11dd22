// Package replicas tells running services of each other, and commands of them.
//
// It owns the row that a replica writes while it runs, what is done when the
// settings of two replicas differ, and which settings a command works with. It
// does not own the settings.
//
// A replica whose issuer is another than that of a living replica which started
// before it is not ready: back ends refuse its tokens. Other differences are
// logged. A row that cannot be written or read is logged and tried again; a
// command that cannot read the rows fails.
package replicas

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

const (
	// interval is how often a replica writes its row.
	interval = 30 * time.Second
	// aliveFor is how long after its last row a replica counts as running.
	aliveFor = 3 * interval
	// timeout bounds one round.
	timeout = 10 * time.Second
)

// Store is where replicas are kept.
type Store interface {
	auth.ReplicaStore
	// Now returns the database's clock.
	Now(ctx context.Context) (time.Time, error)
}

// Config is what a [Member] needs.
type Config struct {
	Store    Store
	Version  string
	Settings auth.Settings
	// Unready says why the replica should get no requests, or returns "".
	Unready func(ctx context.Context) string
	Log     *slog.Logger
}

// Member is this replica among the others. It is safe for concurrent use.
type Member struct {
	cfg Config
	row auth.Replica
	// warned holds the differences that the log has.
	warned map[string]bool
	// conflict says why this replica must not serve, if it must not.
	conflict atomic.Pointer[string]
}

// New returns this replica.
func New(cfg Config) *Member {
	return &Member{
		cfg:    cfg,
		row:    auth.Replica{ID: uuid.Must(uuid.NewV7()), Version: cfg.Version, Settings: cfg.Settings},
		warned: map[string]bool{},
	}
}

// Conflict says why this replica must not serve beside the others, or returns
// "".
func (m *Member) Conflict() string {
	if c := m.conflict.Load(); c != nil {
		return *c
	}
	return ""
}

// Run writes the row and looks at the others, at every tick until ctx is done.
// Production passes [Pause].
func (m *Member) Run(ctx context.Context, pause func() <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause():
		}
		m.Sync(ctx)
	}
}

// Pause returns a channel that fires after the interval.
func Pause() <-chan time.Time { return time.After(interval) }

// Sync does one round: it writes the row and looks at the others. It must not be
// called while [Member.Run] runs.
func (m *Member) Sync(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := m.sync(ctx); err != nil && ctx.Err() == nil {
		m.cfg.Log.Warn("comparison with other replicas failed, next round retries", "cause", err)
	}
}

func (m *Member) sync(ctx context.Context) error {
	now, err := m.cfg.Store.Now(ctx)
	if err != nil {
		return err
	}
	if m.row.StartedAt.IsZero() {
		m.row.StartedAt = now
	}
	m.row.SeenAt = now
	m.row.Reason = m.cfg.Unready(ctx)
	m.row.Ready = m.row.Reason == ""
	if err := m.cfg.Store.SaveReplica(ctx, m.row); err != nil {
		return err
	}
	all, err := m.cfg.Store.Replicas(ctx)
	if err != nil {
		return err
	}
	conflict := ""
	for _, r := range running(all, now) {
		if r.ID == m.row.ID {
			continue
		}
		if r.Issuer != m.row.Issuer && before(r, m.row) {
			conflict = fmt.Sprintf("YUFU_ISSUER is %s here and %s at a replica that started earlier; stop that replica, or correct the setting", m.row.Issuer, r.Issuer)
		}
		for _, d := range differences(m.row.Settings, r.Settings) {
			if text := d.setting + d.theirs; !m.warned[text] {
				m.warned[text] = true
				m.cfg.Log.Warn("setting differs from another replica, must be the same on all", "setting", d.setting, "here", d.ours, "there", d.theirs, "replica", r.ID)
			}
		}
	}
	m.conflict.Store(&conflict)
	return nil
}

// before reports whether a started before b. The id decides between two that
// started at once.
func before(a, b auth.Replica) bool {
	if a.StartedAt.Equal(b.StartedAt) {
		return a.ID.String() < b.ID.String()
	}
	return a.StartedAt.Before(b.StartedAt)
}

// running returns the replicas that run at now, or all that are remembered when
// none does: what the last ones worked with is the best that is known.
func running(all []auth.Replica, now time.Time) []auth.Replica {
	var l []auth.Replica
	for _, r := range all {
		if r.SeenAt.After(now.Add(-aliveFor)) {
			l = append(l, r)
		}
	}
	if l == nil {
		return all
	}
	return l
}

// difference is a setting with two values.
type difference struct{ setting, ours, theirs string }

func differences(ours, theirs auth.Settings) []difference {
	var out []difference
	for _, d := range []difference{
		{"YUFU_ISSUER", ours.Issuer, theirs.Issuer},
		{"YUFU_JWKS_MAX_AGE", ours.JWKSMaxAge.String(), theirs.JWKSMaxAge.String()},
		{"YUFU_SESSION_MAX_TTL", ours.SessionMaxTTL.String(), theirs.SessionMaxTTL.String()},
		{"YUFU_MAX_STALENESS", ours.MaxStaleness.String(), theirs.MaxStaleness.String()},
	} {
		if d.ours != d.theirs {
			out = append(out, d)
		}
	}
	return out
}

// SafestDurations returns the durations with which a command does no harm to the running
// replicas: the longest of its own and theirs. Say is called with a sentence for
// each of the command's own values that differs. A duration that is 0 is none
// that the command uses, and stays 0.
func SafestDurations(ctx context.Context, s Store, jwksMaxAge, sessionMaxTTL time.Duration, note func(string)) (jwks, sessions time.Duration, err error) {
	now, err := s.Now(ctx)
	if err != nil {
		return 0, 0, err
	}
	all, err := s.Replicas(ctx)
	if err != nil {
		return 0, 0, err
	}
	jwks, sessions = jwksMaxAge, sessionMaxTTL
	longest := auth.Settings{}
	for _, r := range running(all, now) {
		longest.JWKSMaxAge = max(longest.JWKSMaxAge, r.JWKSMaxAge)
		longest.SessionMaxTTL = max(longest.SessionMaxTTL, r.SessionMaxTTL)
	}
	for _, v := range []struct {
		name   string
		own    *time.Duration
		theirs time.Duration
	}{
		{"YUFU_JWKS_MAX_AGE", &jwks, longest.JWKSMaxAge},
		{"YUFU_SESSION_MAX_TTL", &sessions, longest.SessionMaxTTL},
	} {
		if *v.own == 0 || v.theirs == 0 || *v.own == v.theirs {
			continue
		}
		own := *v.own
		*v.own = max(own, v.theirs)
		note(fmt.Sprintf("%s is %s here and %s in the running service; this command works with %s", v.name, own, v.theirs, *v.own))
	}
	return jwks, sessions, nil
}
