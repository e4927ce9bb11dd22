package replicas

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/yufu-auth/yufu/pkg/auth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var t0 = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// memory is a database that can be down.
type memory struct {
	now  time.Time
	rows map[uuid.UUID]auth.Replica
	down error
}

func (m *memory) Now(context.Context) (time.Time, error) { return m.now, m.down }

func (m *memory) SaveReplica(_ context.Context, r auth.Replica) error {
	m.rows[r.ID] = r
	return m.down
}

func (m *memory) Replicas(context.Context) ([]auth.Replica, error) {
	var all []auth.Replica
	for _, r := range m.rows {
		all = append(all, r)
	}
	return all, m.down
}

func usual() auth.Settings {
	return auth.Settings{Issuer: "https://auth.example.com", JWKSMaxAge: 5 * time.Minute, SessionMaxTTL: 4320 * time.Hour, MaxStaleness: 30 * time.Second}
}

// member returns a replica and its log.
func member(m *memory, change func(*auth.Settings)) (*Member, *bytes.Buffer) {
	s := usual()
	if change != nil {
		change(&s)
	}
	var log bytes.Buffer
	return New(Config{
		Store: m, Version: "v1", Settings: s, Log: slog.New(slog.NewTextHandler(&log, nil)),
		Unready: func(context.Context) string { return "" }, MasterKey: func() string { return "1a2b3c4d" },
	}), &log
}

func TestSync(t *testing.T) {
	t.Run("replicas with the same settings log nothing", func(t *testing.T) {
		db := &memory{now: t0, rows: map[uuid.UUID]auth.Replica{}}
		a, logA := member(db, nil)
		b, logB := member(db, nil)
		for _, m := range []*Member{a, b, a} {
			m.Sync(t.Context())
		}
		if len(db.rows) != 2 || a.Conflict()+b.Conflict() != "" || logA.Len()+logB.Len() != 0 {
			t.Errorf("%d rows, conflicts %q and %q, logs %s %s; want 2 rows and nothing else", len(db.rows), a.Conflict(), b.Conflict(), logA, logB)
		}
	})
	t.Run("a difference is logged once by each", func(t *testing.T) {
		db := &memory{now: t0, rows: map[uuid.UUID]auth.Replica{}}
		a, logA := member(db, nil)
		b, logB := member(db, func(s *auth.Settings) { s.SessionMaxTTL = time.Minute })
		for range 3 {
			a.Sync(t.Context())
			b.Sync(t.Context())
		}
		for _, log := range []*bytes.Buffer{logA, logB} {
			if strings.Count(log.String(), "level=WARN") != 1 || !strings.Contains(log.String(), "YUFU_SESSION_MAX_TTL") {
				t.Errorf("log %s, want one warning of YUFU_SESSION_MAX_TTL", log)
			}
		}
		if a.Conflict()+b.Conflict() != "" {
			t.Errorf("conflicts %q and %q, want none", a.Conflict(), b.Conflict())
		}
	})
	t.Run("a replica with another issuer must not serve until the earlier one is gone", func(t *testing.T) {
		db := &memory{now: t0, rows: map[uuid.UUID]auth.Replica{}}
		a, _ := member(db, nil)
		b, _ := member(db, func(s *auth.Settings) { s.Issuer = "https://other.example.com" })
		a.Sync(t.Context())
		db.now = t0.Add(time.Second)
		b.Sync(t.Context())
		a.Sync(t.Context())
		if a.Conflict() != "" || !strings.Contains(b.Conflict(), "YUFU_ISSUER is https://other.example.com here and https://auth.example.com") {
			t.Errorf("conflicts %q and %q, want one of the second", a.Conflict(), b.Conflict())
		}
		db.now = db.now.Add(aliveFor - time.Second)
		b.Sync(t.Context())
		if b.Conflict() == "" {
			t.Error("no conflict while the other may run")
		}
		db.now = db.now.Add(time.Second)
		b.Sync(t.Context())
		if b.Conflict() != "" {
			t.Errorf("conflict %q with a replica that is gone", b.Conflict())
		}
	})
	t.Run("a database that is down is logged, and the conflict stands", func(t *testing.T) {
		db := &memory{now: t0, rows: map[uuid.UUID]auth.Replica{}, down: errors.New("down")}
		a, log := member(db, nil)
		a.Sync(t.Context())
		if !strings.Contains(log.String(), "comparison with other replicas failed") || a.Conflict() != "" {
			t.Errorf("log %s, conflict %q; want a warning and no conflict", log, a.Conflict())
		}
	})
	t.Run("a replica that is not ready says so in its row", func(t *testing.T) {
		db := &memory{now: t0, rows: map[uuid.UUID]auth.Replica{}}
		a, _ := member(db, nil)
		a.cfg.Unready = func(context.Context) string { return "the clock is off" }
		a.Sync(t.Context())
		if r := db.rows[a.row.ID]; r.Ready || r.Reason != "the clock is off" || !r.SeenAt.Equal(t0) {
			t.Errorf("row %+v, want not ready with the reason", r)
		}
	})
}

func TestRun(t *testing.T) {
	db := &memory{now: t0, rows: map[uuid.UUID]auth.Replica{}}
	a, _ := member(db, nil)
	ctx, cancel := context.WithCancel(t.Context())
	ticks, done := make(chan time.Time), make(chan struct{})
	go func() {
		a.Run(ctx, func() <-chan time.Time { return ticks })
		close(done)
	}()
	ticks <- t0
	ticks <- t0 // the first round is over
	cancel()
	<-done
	if len(db.rows) != 1 {
		t.Errorf("%d rows, want 1", len(db.rows))
	}
}

func TestWake(t *testing.T) {
	a, _ := member(&memory{now: t0, rows: map[uuid.UUID]auth.Replica{}}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	asked, done := make(chan struct{}), make(chan struct{})
	a.cfg.MasterKey = func() string { asked <- struct{}{}; return "1a2b3c4d" }
	go func() {
		a.Run(ctx, func() <-chan time.Time { return nil })
		close(done)
	}()
	for range 2 {
		a.Wake()
		<-asked
	}
	cancel()
	<-done
}

func TestSafestDurations(t *testing.T) {
	row := func(seen time.Time, jwks, sessions time.Duration) auth.Replica {
		s := usual()
		s.JWKSMaxAge, s.SessionMaxTTL = jwks, sessions
		return auth.Replica{ID: uuid.New(), Settings: s, SeenAt: seen}
	}
	const usualJWKS, usualSessions = 5 * time.Minute, 4320 * time.Hour
	long := row(t0, time.Hour, usualSessions)
	gone := row(t0.Add(-aliveFor), 24*time.Hour, 2*usualSessions)
	for name, tc := range map[string]struct {
		rows                      []auth.Replica
		jwks, sessions            time.Duration
		wantJWKS, wantSessions    time.Duration
		saysJWKS, saysSessionsToo bool
	}{
		"no replica ever":               {nil, usualJWKS, time.Minute, usualJWKS, time.Minute, false, false},
		"the same":                      {[]auth.Replica{row(t0, usualJWKS, usualSessions)}, usualJWKS, usualSessions, usualJWKS, usualSessions, false, false},
		"shorter than the service":      {[]auth.Replica{long}, time.Minute, time.Minute, time.Hour, usualSessions, true, true},
		"longer than the service":       {[]auth.Replica{long}, 2 * time.Hour, usualSessions, 2 * time.Hour, usualSessions, true, false},
		"the longest of two replicas":   {[]auth.Replica{row(t0, usualJWKS, usualSessions), long}, usualJWKS, usualSessions, time.Hour, usualSessions, true, false},
		"a replica that is gone":        {[]auth.Replica{long, gone}, time.Hour, usualSessions, time.Hour, usualSessions, false, false},
		"only replicas that are gone":   {[]auth.Replica{gone}, usualJWKS, usualSessions, 24 * time.Hour, 2 * usualSessions, true, true},
		"a command without one of them": {[]auth.Replica{long}, time.Minute, 0, time.Hour, 0, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			db := &memory{now: t0, rows: map[uuid.UUID]auth.Replica{}}
			for _, r := range tc.rows {
				db.rows[r.ID] = r
			}
			var said []string
			jwks, sessions, err := SafestDurations(t.Context(), db, tc.jwks, tc.sessions, func(text string) { said = append(said, text) })
			if err != nil || jwks != tc.wantJWKS || sessions != tc.wantSessions {
				t.Errorf("SafestDurations() = %s, %s, %v; want %s, %s", jwks, sessions, err, tc.wantJWKS, tc.wantSessions)
			}
			about := func(setting string) bool {
				return slices.ContainsFunc(said, func(s string) bool { return strings.HasPrefix(s, setting+" is ") })
			}
			if about("YUFU_JWKS_MAX_AGE") != tc.saysJWKS || about("YUFU_SESSION_MAX_TTL") != tc.saysSessionsToo {
				t.Errorf("the notes are %q, want JWKS %t and sessions %t", said, tc.saysJWKS, tc.saysSessionsToo)
			}
		})
	}
	t.Run("a database that is down", func(t *testing.T) {
		down := errors.New("down")
		if _, _, err := SafestDurations(t.Context(), &memory{down: down}, 1, 1, nil); !errors.Is(err, down) {
			t.Errorf("SafestDurations() error = %v, want %v", err, down)
		}
	})
}

func TestCheckMasterKey(t *testing.T) {
	db := &memory{now: t0, rows: map[uuid.UUID]auth.Replica{}}
	if err := CheckMasterKey(t.Context(), db, "5e6f7a8b"); err != nil {
		t.Errorf("CheckMasterKey() without replicas: error = %v", err)
	}
	m, _ := member(db, nil)
	m.Sync(t.Context())
	if err := CheckMasterKey(t.Context(), db, "1a2b3c4d"); err != nil {
		t.Errorf("CheckMasterKey() with the replica's key: error = %v", err)
	}
	db.now = t0.Add(aliveFor - time.Second)
	if err := CheckMasterKey(t.Context(), db, "5e6f7a8b"); err == nil || !strings.Contains(err.Error(), "1a2b3c4d instead of 5e6f7a8b when it was last seen, 1m29s ago") {
		t.Errorf("CheckMasterKey() with another key: error = %v, want one with both keys", err)
	}
	db.now = t0.Add(aliveFor)
	if err := CheckMasterKey(t.Context(), db, "5e6f7a8b"); err != nil {
		t.Errorf("CheckMasterKey() with another key, when the replica is gone: error = %v", err)
	}
	db.down = errors.New("down")
	if err := CheckMasterKey(t.Context(), db, "1a2b3c4d"); !errors.Is(err, db.down) {
		t.Errorf("CheckMasterKey() error = %v, want %v", err, db.down)
	}
}
