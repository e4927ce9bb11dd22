package keyring_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/yufu-auth/yufu/db/sqlite"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/seal"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
	"github.com/yufu-auth/yufu/pkg/token"
)

var now = time.Date(2026, 7, 1, 12, 0, 0, 123456000, time.UTC)

// openFile opens the store of a file, like a separate replica.
func openFile(t *testing.T, path string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.Migrate(t.Context(), shardtest.Sealed); err != nil {
		t.Fatal(err)
	}
	return s
}

func newStore(t *testing.T) *sqlite.Store {
	t.Helper()
	return openFile(t, filepath.Join(t.TempDir(), "yufu.db"))
}

// sealer returns a master-key ring; the first fill seals.
func sealer(t *testing.T, fills ...byte) *seal.Ring {
	t.Helper()
	var keys [][]byte
	for _, f := range fills {
		keys = append(keys, bytes.Repeat([]byte{f}, seal.KeySize))
	}
	r, err := seal.NewRing(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func open(t *testing.T, s keyring.Store, at time.Time) *keyring.Ring {
	t.Helper()
	r, err := keyring.Open(t.Context(), s, sealer(t, 1), at)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func stored(t *testing.T, s keyring.Store) []keyring.StoredKey {
	t.Helper()
	keys, err := s.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// put writes rows as they are.
func put(t *testing.T, s keyring.Store, keys ...keyring.StoredKey) {
	t.Helper()
	_, err := s.ChangeKeys(t.Context(), now, func([]keyring.StoredKey) (keyring.Change, error) {
		return keyring.Change{Add: keys}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// fresh returns the rows that a first start at now makes under master key 1.
func fresh(t *testing.T) []keyring.StoredKey {
	t.Helper()
	s := newStore(t)
	open(t, s, now)
	return stored(t, s)
}

// one returns the next or the current key of a use.
func one(t *testing.T, keys []keyring.StoredKey, use keyring.Use, next bool) keyring.StoredKey {
	t.Helper()
	i := slices.IndexFunc(keys, func(k keyring.StoredKey) bool { return k.Use == use && k.ActiveAt.IsZero() == next })
	if i < 0 {
		t.Fatalf("no %s key (next: %v)", use, next)
	}
	return keys[i]
}

func signingKID(t *testing.T, r *keyring.Ring, at time.Time) string {
	t.Helper()
	k, err := r.CurrentSigningKey(token.DefaultAlg, at)
	if err != nil {
		t.Fatal(err)
	}
	return k.KID
}

func macKID(t *testing.T, r *keyring.Ring, at time.Time) string {
	t.Helper()
	id, _, err := r.CurrentMACKey(at)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%08x", id)
}

// published returns the keys of the JWK set by kid, each with its members.
func published(t *testing.T, r *keyring.Ring) map[string]map[string]string {
	t.Helper()
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal(r.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]string{}
	for _, k := range set.Keys {
		out[k["kid"]] = k
	}
	return out
}

func TestStatesOfAKey(t *testing.T) {
	t.Parallel()
	t.Run("the next key is published and does not sign", func(t *testing.T) {
		t.Parallel()
		s := newStore(t)
		r := open(t, s, now)
		keys := stored(t, s)
		next := one(t, keys, keyring.UseAccess, true)
		later := now.Add(10 * 365 * 24 * time.Hour)
		if published(t, r)[next.KID] == nil {
			t.Error("the next key is not published")
		}
		if _, alg, ok := r.VerificationKey(next.KID); !ok || alg != "ES256" {
			t.Errorf("VerificationKey() of the next key = %q, %v, want ES256, true", alg, ok)
		}
		if signingKID(t, r, later) == next.KID {
			t.Error("the key signs")
		}
		nextMAC := one(t, keys, keyring.UseRefresh, true)
		if macKID(t, r, later) == nextMAC.KID {
			t.Error("the next MAC key signs")
		}
		var id uint32
		if _, err := fmt.Sscanf(nextMAC.KID, "%x", &id); err != nil {
			t.Fatal(err)
		}
		if _, ok := r.MACKey(id); !ok {
			t.Error("MACKey() does not find the next MAC key, with which another replica may sign already")
		}
	})
	t.Run("a key signs from its ActiveAt on, and the previous one still verifies", func(t *testing.T) {
		t.Parallel()
		s := newStore(t)
		all := fresh(t)
		previous, current := one(t, all, keyring.UseAccess, false), one(t, all, keyring.UseAccess, true)
		previousMAC, currentMAC := one(t, all, keyring.UseRefresh, false), one(t, all, keyring.UseRefresh, true)
		change := now.Add(time.Hour)
		current.ActiveAt, currentMAC.ActiveAt = change, change
		put(t, s, previous, current, previousMAC, currentMAC)
		r := open(t, s, now)
		for at, want := range map[time.Time][2]string{
			now:                            {previous.KID, previousMAC.KID},
			change.Add(-time.Microsecond):  {previous.KID, previousMAC.KID},
			change:                         {current.KID, currentMAC.KID},
			change.Add(24 * time.Hour):     {current.KID, currentMAC.KID},
			now.Add(-365 * 24 * time.Hour): {previous.KID, previousMAC.KID},
		} {
			if got := [2]string{signingKID(t, r, at), macKID(t, r, at)}; got != want {
				t.Errorf("at %v: %v, want %v", at, got, want)
			}
		}
		if _, _, ok := r.VerificationKey(previous.KID); !ok || published(t, r)[previous.KID] == nil {
			t.Error("the previous key is gone")
		}
	})
	t.Run("a retired key neither signs nor verifies nor is published", func(t *testing.T) {
		t.Parallel()
		s := newStore(t)
		r := open(t, s, now)
		old := fresh(t)
		signing, mac := one(t, old, keyring.UseAccess, false), one(t, old, keyring.UseRefresh, false)
		for _, k := range []*keyring.StoredKey{&signing, &mac} {
			k.ActiveAt, k.RetiredAt = now.Add(time.Minute), now.Add(time.Hour)
		}
		put(t, s, signing, mac)
		if err := r.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		at := now.Add(30 * time.Minute)
		if signingKID(t, r, at) == signing.KID || macKID(t, r, at) == mac.KID {
			t.Error("the key signs")
		}
		if _, _, ok := r.VerificationKey(signing.KID); ok {
			t.Error("the retired key verifies")
		}
		var id uint32
		if _, err := fmt.Sscanf(mac.KID, "%x", &id); err != nil {
			t.Fatal(err)
		}
		if _, ok := r.MACKey(id); ok {
			t.Error("the MAC key verifies")
		}
		if published(t, r)[signing.KID] != nil {
			t.Error("the retired key is published")
		}
	})
	t.Run("the default algorithm signs while an algorithm has no key", func(t *testing.T) {
		t.Parallel()
		r := open(t, newStore(t), now)
		if k, err := r.CurrentSigningKey("RS256", now); err != nil || k.KID != signingKID(t, r, now) || k.Alg != token.DefaultAlg {
			t.Errorf("CurrentSigningKey() = %+v, %v, want the default key", k, err)
		}
	})
	t.Run("an unknown kid finds no key", func(t *testing.T) {
		t.Parallel()
		r := open(t, newStore(t), now)
		if key, alg, ok := r.VerificationKey(""); ok || key != nil || alg != "" {
			t.Errorf("VerificationKey() = %v, %q, %v, want no key", key, alg, ok)
		}
		if key, ok := r.MACKey(0); ok || key != nil {
			t.Errorf("MACKey() = %v, %v, want no key", key, ok)
		}
	})
}

func TestReload(t *testing.T) {
	t.Parallel()
	t.Run("it finds keys that another replica made", func(t *testing.T) {
		t.Parallel()
		s := newStore(t)
		r := open(t, s, now)
		k := one(t, fresh(t), keyring.UseAccess, false)
		k.ActiveAt = now.Add(time.Minute)
		put(t, s, k)
		if err := r.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if signingKID(t, r, now.Add(time.Minute)) != k.KID {
			t.Error("the new key does not sign")
		}
	})
	t.Run("on an error the ring keeps the keys it has", func(t *testing.T) {
		t.Parallel()
		s := newStore(t)
		r := open(t, s, now)
		before := r.JWKS()
		bad := one(t, fresh(t), keyring.UseAccess, false)
		bad.Public = []byte("{}")
		put(t, s, bad)
		if err := r.Reload(t.Context()); err == nil {
			t.Error("Reload() error = nil for an invalid key")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.Reload(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Reload() error = %v, want %v", err, context.Canceled)
		}
		if !bytes.Equal(before, r.JWKS()) || signingKID(t, r, now) == "" {
			t.Error("the ring lost its keys")
		}
	})
}

func TestJWKS(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	r := open(t, s, now)
	t.Run("the keys have only public members", func(t *testing.T) {
		t.Parallel()
		set := published(t, r)
		if len(set) != 2 {
			t.Errorf("%d keys, want 2", len(set))
		}
		for kid, k := range set {
			if d := cmp.Diff([]string{"alg", "crv", "kid", "kty", "use", "x", "y"}, slices.Sorted(maps.Keys(k))); d != "" {
				t.Errorf("%s: members of the key (-want +got):\n%s", kid, d)
			}
			if k["kty"] != "EC" || k["crv"] != "P-256" || k["use"] != "sig" || k["alg"] != "ES256" {
				t.Errorf("%s: key = %v, want kty EC, crv P-256, use sig and alg ES256", kid, k)
			}
			canonical := fmt.Sprintf(`{"crv":"P-256","kty":"EC","x":%q,"y":%q}`, k["x"], k["y"])
			sum := sha256.Sum256([]byte(canonical))
			if want := base64.RawURLEncoding.EncodeToString(sum[:]); kid != want {
				t.Errorf("kid %s, thumbprint %s", kid, want)
			}
		}
	})
	t.Run("MAC keys are not in it", func(t *testing.T) {
		t.Parallel()
		for _, k := range stored(t, s) {
			if k.Use == keyring.UseRefresh && bytes.Contains(r.JWKS(), []byte(k.KID)) {
				t.Errorf("%s is published", k.KID)
			}
		}
	})
	t.Run("a signature of the current key verifies with the published key", func(t *testing.T) {
		t.Parallel()
		current, err := r.CurrentSigningKey(token.DefaultAlg, now)
		if err != nil {
			t.Fatal(err)
		}
		k := published(t, r)[current.KID]
		point := []byte{4}
		for _, half := range []string{k["x"], k["y"]} {
			b, err := base64.RawURLEncoding.DecodeString(half)
			if err != nil || len(b) != 32 {
				t.Fatalf("decoding %q: error = %v, want 32 bytes", half, err)
			}
			point = append(point, b...)
		}
		pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
		if err != nil {
			t.Fatal(err)
		}
		digest := sha256.Sum256([]byte("x"))
		sig, err := current.Key.Sign(rand.Reader, digest[:], nil)
		if err != nil {
			t.Fatal(err)
		}
		if !ecdsa.VerifyASN1(pub, digest[:], sig) {
			t.Error("the signature does not verify")
		}
		if verify, _, _ := r.VerificationKey(current.KID); !pub.Equal(verify) {
			t.Error("VerificationKey() differs from the published key")
		}
	})
}
