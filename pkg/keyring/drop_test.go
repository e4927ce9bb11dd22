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

// A replica whose master key file is behind cannot open what the others seal. It
// goes on with the keys it has; but one that leaked, and was retired by those who
// can, is as dead there.
func TestAKeyThatCannotBeOpenedKeepsNoCompromisedOneAlive(t *testing.T) {
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
			// The others seal with another master key by now.
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
					t.Fatalf("it follows without the master key: %v", err)
				}
			}

			switch use {
			case keyring.UseAccess:
				if _, _, ok := behind.VerificationKey(leaked.KID); ok {
					t.Error("what it signs is still good")
				}
				if _, _, ok := behind.VerificationKey(other.KID); !ok {
					t.Error("the key beside it is gone as well")
				}
				keys := published(t, behind.Ring)
				if keys[leaked.KID] != nil || keys[other.KID] == nil || len(keys) != 1 {
					t.Errorf("it publishes %v", keys)
				}
				if k, err := behind.CurrentSigningKey("ES256", f.now); err == nil && k.KID == leaked.KID {
					t.Error("it still signs")
				}
			case keyring.UseRefresh:
				if _, ok := behind.MACKey(macID(t, leaked.KID)); ok {
					t.Error("what it signs is still good")
				}
				if _, ok := behind.MACKey(macID(t, other.KID)); !ok {
					t.Error("the key beside it is gone as well")
				}
				if id, _, err := behind.CurrentMACKey(f.now); err == nil && id == macID(t, leaked.KID) {
					t.Error("it still signs")
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
