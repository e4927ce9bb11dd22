package main

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/token"
)

// TestStaleCutoffs checks that a replica with stale cutoffs accepts no token, even if its other
// connections to the database work: it does not know of retired keys, and the holder of a
// leaked key must not be accepted for ever. The session's row does not help.
func TestStaleCutoffs(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := newDeployment(t)
	var later time.Duration
	s, verifier, minter := d.validating(t, d.store, func() time.Time { return time.Now().Add(later) })
	sessions, err := s.newSessions(verifier, minter, nil)
	if err != nil {
		t.Fatal(err)
	}
	signed := signedAt(t, minter, now())
	// With fresh cutoffs, the session is looked up, and there is no row.
	if _, err := sessions.Authenticate(ctx, signed); auth.CodeOf(err) != auth.SessionRevoked {
		t.Fatalf("Authenticate() with fresh cutoffs: error = %v, want %v", err, auth.SessionRevoked)
	}
	later = time.Minute + time.Second
	if _, err := sessions.Authenticate(ctx, signed); auth.CodeOf(err) != auth.StorageUnavailable {
		t.Errorf("Authenticate() with stale cutoffs: error = %v, want %v", err, auth.StorageUnavailable)
	}
}

// steppingStore is a database whose clock the test sets.
type steppingStore struct {
	store
	by *time.Duration
}

func (s steppingStore) Cutoffs(ctx context.Context, after int64, limit int) (cutoffs.Batch, error) {
	return aheadStore{s.store, *s.by}.Cutoffs(ctx, after, limit)
}

// TestExpiredTokens checks that an expired token stays expired if the database's clock is set
// back.
func TestExpiredTokens(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := newDeployment(t)
	var by time.Duration
	s, verifier, minter := d.validating(t, steppingStore{d.store, &by}, time.Now)
	signed := signedAt(t, minter, now().Add(-90*time.Minute))
	for _, by = range []time.Duration{0, -time.Hour} {
		if err := s.follower.CatchUp(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := verifier.Verify(ctx, signed.Reveal()); auth.CodeOf(err) != auth.TokenExpired {
			t.Errorf("Verify() with a clock that is %v ahead: error = %v, want %v", by, err, auth.TokenExpired)
		}
	}
}

// validating returns a replica over the store, whose machine has this clock, with its verifier
// and a minter of such tokens.
func (d *testDeployment) validating(t *testing.T, db store, clock func() time.Time) (*service, *token.Verifier, *token.Minter) {
	t.Helper()
	s := &service{parts: d.parts(t, db)}
	var err error
	s.follower, err = cutoffs.Open(t.Context(), cutoffs.Config{Store: db, MaxStaleness: time.Minute, Clock: clock, Log: s.log})
	if err != nil {
		t.Fatal(err)
	}
	if s.keys, err = openKeys(t.Context(), db, d.sealer); err != nil {
		t.Fatal(err)
	}
	minter, err := token.NewMinter(s.keys, s.issuer, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := s.newVerifier()
	if err != nil {
		t.Fatal(err)
	}
	return s, verifier, minter
}

// signedAt returns the access token of a session that has no row.
func signedAt(t *testing.T, minter *token.Minter, at time.Time) auth.Secret {
	t.Helper()
	signed, _, err := minter.Mint(&auth.Session{
		ID: uuid.Must(uuid.NewV7()), Identity: uuid.Must(uuid.NewV7()), AppID: "wxtest00000000001", Ver: 1, ExpiresAt: time.Now().Add(24 * time.Hour),
	}, nil, "", at)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// now returns the current time with the precision of the stores.
func now() time.Time { return auth.StoredTime(time.Now()) }
