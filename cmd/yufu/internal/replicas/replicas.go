// Package replicas compares the settings of running replicas, and gives commands the
// settings of the replicas and the master key with which they seal.
//
// It owns the row that a replica writes while it runs, the reaction to settings that differ,
// and the settings that a command uses. It does not own the settings themselves.
//
// A replica is not ready if its issuer differs from that of a running replica that started
// earlier: back ends refuse its tokens. Other differences are logged. A failure to write or
// read the rows is logged, and the next round tries again. A command that cannot read the
// rows fails.
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
	// interval is the time between two writes of a replica's row.
	interval = 30 * time.Second
	// aliveFor is the time after its last write for which a replica counts as running.
	aliveFor = 3 * interval
	// timeout bounds one round.
	timeout = 10 * time.Second
)

// Store stores the rows of replicas.
type Store interface {
	auth.ReplicaStore
	// Now returns the database's clock.
	Now(ctx context.Context) (time.Time, error)
}

// Config configures a [Member]. All fields are required.
type Config struct {
	Store    Store
	Version  string
	Settings auth.Settings
	// MasterKey returns the fingerprint of the key with which this replica seals.
	MasterKey func() string
	// Unready returns why the replica should get no requests, or "".
	Unready func(ctx context.Context) string
	Log     *slog.Logger
}

// Member is this replica, which compares itself with the others. It is safe for concurrent
// use, except [Member.Sync].
type Member struct {
	cfg  Config
	row  auth.Replica
	wake chan struct{}
	// warned holds the differences that were logged.
	warned map[string]bool
	// conflict is the reason for which this replica must not serve, or "".
	conflict atomic.Pointer[string]
}

// New returns this replica. Its row is written by the first call of [Member.Sync].
func New(cfg Config) *Member {
	return &Member{
		cfg:    cfg,
		row:    auth.Replica{ID: uuid.Must(uuid.NewV7()), Version: cfg.Version, Settings: cfg.Settings},
		wake:   make(chan struct{}, 1),
		warned: map[string]bool{},
	}
}

// Conflict returns why this replica must not serve beside the others, or "".
func (m *Member) Conflict() string {
	if c := m.conflict.Load(); c != nil {
		return *c
	}
	return ""
}

// Wake makes [Member.Run] call [Member.Sync] now.
func (m *Member) Wake() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Run calls [Member.Sync] at every tick of pause, and after [Member.Wake], until ctx is done.
// Production passes [Pause].
func (m *Member) Run(ctx context.Context, pause func() <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause():
		case <-m.wake:
		}
		m.Sync(ctx)
	}
}

// Pause returns a channel that fires after the interval.
func Pause() <-chan time.Time { return time.After(interval) }

// Sync writes the row and compares this replica with the others. It logs an error. It must
// not be called while [Member.Run] runs.
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
	m.row.SeenAt, m.row.MasterKey = now, m.cfg.MasterKey()
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

// before reports whether a started before b. If both started at the same time, the ids
// decide.
func before(a, b auth.Replica) bool {
	if a.StartedAt.Equal(b.StartedAt) {
		return a.ID.String() < b.ID.String()
	}
	return a.StartedAt.Before(b.StartedAt)
}

// running returns the replicas that run at now. If no replica runs, it returns all stored
// ones: the last known settings are the best guess.
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

// CheckMasterKey returns an error that names a running replica that does not seal with the key
// with this fingerprint.
func CheckMasterKey(ctx context.Context, s Store, fingerprint string) error {
	now, err := s.Now(ctx)
	if err != nil {
		return err
	}
	all, err := s.Replicas(ctx)
	if err != nil {
		return err
	}
	for _, r := range all {
		if age := now.Sub(r.SeenAt); r.MasterKey != fingerprint && age < aliveFor {
			return fmt.Errorf("a replica sealed with the master key %s instead of %s when it was last seen, %s ago (%s); change its file, and restart it or send it SIGHUP; if it has stopped, wait until that is %s ago",
				r.MasterKey, fingerprint, age.Truncate(time.Second), r.ID, aliveFor)
		}
	}
	return nil
}

// SafestDurations returns the durations that are safe for the running replicas: the longer
// of the command's value and theirs. It calls note with a sentence for each value of the
// command that differs. A duration that is 0 is not used by the command and stays 0.
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
