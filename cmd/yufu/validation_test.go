package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/seal"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/token"
)

// A replica that hears of no cutoffs hears of no retired keys either, though its
// other connections to the database are good: whoever has a key that leaked must
// not be somebody there for ever. What the session's row says does not help.
func TestUsersAreNotBelievedByCutoffsThatAreTooOld(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := openStore(ctx, setting.Database{Setting: "a test", SQLitePath: filepath.Join(t.TempDir(), "yufu.db")}, true)
	check(err)
	t.Cleanup(s.Close)
	sealer, err := seal.ParseRing(seal.GenerateFile())
	check(err)
	keys, err := keyring.Open(ctx, s, sealer, now())
	check(err)
	log := slog.New(slog.DiscardHandler)
	var later time.Duration
	follower, err := cutoffs.Open(ctx, cutoffs.Config{
		Store: s, MaxStaleness: time.Minute, Clock: func() time.Time { return time.Now().Add(later) }, Log: log,
	})
	check(err)
	p := parts{log: log, store: s, sealer: sealer, keys: keys, issuer: "https://auth.example.com", follower: follower}
	minter, err := token.NewMinter(keys, p.issuer, time.Hour)
	check(err)
	verifier, err := newVerifier(p)
	check(err)
	p.lifetimes = lifetimeFlags{AccessTokenTTL: time.Hour, RefreshGrace: time.Minute, SessionIdleTTL: time.Hour, sessionMaxFlag: sessionMaxFlag{SessionMaxTTL: 24 * time.Hour}}
	sessions, err := newSessions(p, verifier, minter, nil)
	check(err)
	signed, _, err := minter.Mint(&auth.Session{
		ID: uuid.Must(uuid.NewV7()), Identity: uuid.Must(uuid.NewV7()), AppID: "wxtest00000000001", Ver: 1, ExpiresAt: time.Now().Add(24 * time.Hour),
	}, nil, "", now())
	check(err)
	// While they are new the row is asked, and there is none.
	if _, err := sessions.Authenticate(ctx, signed); auth.CodeOf(err) != auth.SessionRevoked {
		t.Fatalf("in time: %v", err)
	}
	later = time.Minute + time.Second
	if _, err := sessions.Authenticate(ctx, signed); auth.CodeOf(err) != auth.StorageUnavailable {
		t.Errorf("too late: %v, want that nobody can tell", err)
	}
}

// steppingStore is a database whose clock is set.
type steppingStore struct {
	store
	by *time.Duration
}

func (s steppingStore) Cutoffs(ctx context.Context, after int64, limit int) (cutoffs.Batch, error) {
	return aheadStore{s.store, *s.by}.Cutoffs(ctx, after, limit)
}

func TestExpiredTokensStayExpiredWhenTheDatabasesClockIsSetBack(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := openStore(ctx, setting.Database{Setting: "a test", SQLitePath: filepath.Join(t.TempDir(), "yufu.db")}, true)
	check(err)
	t.Cleanup(s.Close)
	sealer, err := seal.ParseRing(seal.GenerateFile())
	check(err)
	keys, err := keyring.Open(ctx, s, sealer, now())
	check(err)
	log := slog.New(slog.DiscardHandler)
	var by time.Duration
	follower, err := cutoffs.Open(ctx, cutoffs.Config{Store: steppingStore{s, &by}, MaxStaleness: time.Minute, Clock: time.Now, Log: log})
	check(err)
	minter, err := token.NewMinter(keys, "https://auth.example.com", time.Hour)
	check(err)
	verifier, err := newVerifier(parts{log: log, store: s, keys: keys, issuer: "https://auth.example.com", follower: follower})
	check(err)
	signed, _, err := minter.Mint(&auth.Session{
		ID: uuid.Must(uuid.NewV7()), Identity: uuid.Must(uuid.NewV7()), AppID: "wxtest00000000001", Ver: 1, ExpiresAt: time.Now().Add(24 * time.Hour),
	}, nil, "", now().Add(-90*time.Minute))
	check(err)
	for _, by = range []time.Duration{0, -time.Hour} {
		check(follower.CatchUp(ctx))
		if _, err := verifier.Verify(ctx, signed.Reveal()); auth.CodeOf(err) != auth.TokenExpired {
			t.Errorf("by a clock that is %v ahead: %v, want %v", by, err, auth.TokenExpired)
		}
	}
}

// now returns the time as stores keep it.
func now() time.Time { return session.StoredTime(time.Now()) }
