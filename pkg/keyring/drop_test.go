package keyring_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/seal"
)

// A replica with an old master key file cannot open new keys. It continues with the keys
// that it has, except a leaked key that another replica has retired.
func TestUnopenableKey(t *testing.T) {
	t.Parallel()
	for _, use := range []keyring.Use{keyring.UseAccess, keyring.UseRefresh} {
		t.Run(string(use), func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 1, policy)
			behind := f.replicas[0]
			leaked, other := f.in(use, current), f.in(use, next)
			if err := behind.ReloadIfChanged(t.Context()); err != nil {
				t.Fatal(err)
			}
			// The other replicas seal with another master key now.
			ring, err := keyring.Open(t.Context(), openFile(t, f.path), sealer(t, 2, 1), f.now)
			if err != nil {
				t.Fatal(err)
			}
			ahead, err := keyring.NewKeeper(keyring.KeeperConfig{
				Ring: ring, Policy: policy, Clock: func() time.Time { return f.now },
				DatabaseClock: func(context.Context) (time.Time, error) { return f.now, nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ahead.Retire(t.Context(), keyring.RetireRequest{KID: leaked.KID, Compromised: true}); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := behind.ReloadIfChanged(t.Context()); !errors.Is(err, seal.ErrOpen) {
					t.Fatalf("ReloadIfChanged() without the master key: error = %v, want %v", err, seal.ErrOpen)
				}
			}

			switch use {
			case keyring.UseAccess:
				if _, _, ok := behind.VerificationKey(leaked.KID); ok {
					t.Error("the leaked key still verifies")
				}
				if _, _, ok := behind.VerificationKey(other.KID); !ok {
					t.Error("the other key no longer verifies")
				}
				keys := published(t, behind.Ring)
				if keys[leaked.KID] != nil || keys[other.KID] == nil || len(keys) != 1 {
					t.Errorf("published keys = %v, want only %s", keys, other.KID)
				}
				if k, err := behind.CurrentSigningKey("ES256", f.now); err == nil && k.KID == leaked.KID {
					t.Error("the leaked key still signs")
				}
			case keyring.UseRefresh:
				if _, ok := behind.MACKey(macID(t, leaked.KID)); ok {
					t.Error("the leaked key still verifies")
				}
				if _, ok := behind.MACKey(macID(t, other.KID)); !ok {
					t.Error("the other key no longer verifies")
				}
				if id, _, err := behind.CurrentMACKey(f.now); err == nil && id == macID(t, leaked.KID) {
					t.Error("the leaked key still signs")
				}
			}
		})
	}
}

func macID(t *testing.T, kid string) uint32 {
	t.Helper()
	id, err := strconv.ParseUint(kid, 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(id)
}
