package keyring_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/yufu-auth/yufu/db/sqlite"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/seal"
	"github.com/yufu-auth/yufu/pkg/token"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	t.Run("the first start makes a current and a next key of each kind", func(t *testing.T) {
		t.Parallel()
		s := newStore(t)
		open(t, s, now)
		count := map[string]int{}
		for _, k := range stored(t, s) {
			count[fmt.Sprintf("%s %s next=%v", k.Use, k.Alg, k.ActiveAt.IsZero())]++
			if !k.CreatedAt.Equal(now) || !k.ActiveAt.IsZero() && !k.ActiveAt.Equal(now) || !k.RetiredAt.IsZero() {
				t.Errorf("key = %+v, want it created and active now, or not yet active", k)
			}
			if (len(k.Public) > 0) != (k.Use == keyring.UseAccess) {
				t.Errorf("key = %+v, want a public key only for access keys", k)
			}
		}
		if d := cmp.Diff(map[string]int{
			"access ES256 next=false": 1, "access ES256 next=true": 1,
			"refresh HS256 next=false": 1, "refresh HS256 next=true": 1,
		}, count); d != "" {
			t.Error(d)
		}
	})
	t.Run("nothing at rest shows a key", func(t *testing.T) {
		t.Parallel()
		s := newStore(t)
		r := open(t, s, now)
		_, mac, err := r.CurrentMACKey(now)
		if err != nil {
			t.Fatal(err)
		}
		k, err := r.CurrentSigningKey(token.DefaultAlg, now)
		if err != nil {
			t.Fatal(err)
		}
		private, err := k.Key.(*ecdsa.PrivateKey).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range stored(t, s) {
			for _, secret := range [][]byte{mac, private} {
				if bytes.Contains(row.Sealed, secret) || bytes.Contains(row.Public, secret) {
					t.Errorf("the row of key %s shows the private key", row.KID)
				}
			}
		}
	})
	t.Run("a second start adds nothing and finds the same keys", func(t *testing.T) {
		t.Parallel()
		s := newStore(t)
		first := open(t, s, now)
		before := stored(t, s)
		second := open(t, s, now.Add(365*24*time.Hour))
		if d := cmp.Diff(before, stored(t, s)); d != "" {
			t.Error(d)
		}
		if !bytes.Equal(first.JWKS(), second.JWKS()) || signingKID(t, first, now) != signingKID(t, second, now) || macKID(t, first, now) != macKID(t, second, now) {
			t.Error("the two rings have different keys")
		}
	})
	t.Run("replicas that start at the same time agree", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "yufu.db")
		const replicas = 8
		stores := make([]*sqlite.Store, replicas)
		for i := range stores {
			stores[i] = openFile(t, path)
		}
		rings, errs := make([]*keyring.Ring, replicas), make([]error, replicas)
		master := sealer(t, 1)
		var wg sync.WaitGroup
		start := make(chan struct{})
		for i := range replicas {
			wg.Go(func() {
				<-start
				// Their clocks differ a little.
				rings[i], errs[i] = keyring.Open(t.Context(), stores[i], master, now.Add(time.Duration(i%3-1)*time.Second))
			})
		}
		close(start)
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		if n := len(stored(t, stores[0])); n != 4 {
			t.Errorf("%d keys", n)
		}
		for i, r := range rings {
			at := now.Add(time.Duration(i%3-1) * time.Second)
			if !bytes.Equal(r.JWKS(), rings[0].JWKS()) || signingKID(t, r, at) != signingKID(t, rings[0], now) || macKID(t, r, at) != macKID(t, rings[0], now) {
				t.Errorf("replica %d has other keys", i)
			}
		}
	})
	t.Run("a replica whose clock is behind uses the existing keys", func(t *testing.T) {
		t.Parallel()
		s := newStore(t)
		ahead := open(t, s, now)
		behind := open(t, s, now.Add(-2*time.Second))
		if n := len(stored(t, s)); n != 4 {
			t.Errorf("%d keys, want no new ones", n)
		}
		at := now.Add(-2 * time.Second)
		if signingKID(t, behind, at) != signingKID(t, ahead, now) || macKID(t, behind, at) != macKID(t, ahead, now) {
			t.Error("the two replicas sign with different keys")
		}
	})
	t.Run("only missing keys are made", func(t *testing.T) {
		t.Parallel()
		s := newStore(t)
		keys := fresh(t)
		had := one(t, keys, keyring.UseAccess, false)
		put(t, s, had)
		r := open(t, s, now.Add(time.Hour))
		if n := len(stored(t, s)); n != 4 {
			t.Errorf("%d keys", n)
		}
		if signingKID(t, r, now.Add(time.Hour)) != had.KID {
			t.Error("the current key was replaced")
		}
	})
	t.Run("a database that does not answer is an error", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := keyring.Open(ctx, newStore(t), sealer(t, 1), now); !errors.Is(err, context.Canceled) {
			t.Errorf("Open() error = %v, want %v", err, context.Canceled)
		}
	})
}

func TestOpenDistrusts(t *testing.T) {
	t.Parallel()
	keys := fresh(t)
	current := one(t, keys, keyring.UseAccess, false)
	next := one(t, keys, keyring.UseAccess, true)
	mac := one(t, keys, keyring.UseRefresh, false)
	// resealed returns the row with other sealed content.
	resealed := func(k keyring.StoredKey, plain []byte) keyring.StoredKey {
		sealed, err := sealer(t, 1).Seal(plain, seal.AAD("signing_keys", "sealed", k.KID))
		if err != nil {
			t.Fatal(err)
		}
		k.Sealed = sealed
		return k
	}
	with := func(k keyring.StoredKey, change func(*keyring.StoredKey)) keyring.StoredKey {
		change(&k)
		return k
	}
	plain, err := sealer(t, 1).Open(current.Sealed, seal.AAD("signing_keys", "sealed", current.KID))
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	wrongCurve, err := x509.MarshalPKCS8PrivateKey(p384)
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]keyring.StoredKey{
		"a public key that was swapped":      with(current, func(k *keyring.StoredKey) { k.Public = next.Public }),
		"a public key for another algorithm": with(current, func(k *keyring.StoredKey) { k.Public = bytes.Replace(k.Public, []byte("ES256"), []byte("none"), 1) }),
		"an invalid public key":              with(current, func(k *keyring.StoredKey) { k.Public = []byte("{") }),
		"a private key from another row":     with(current, func(k *keyring.StoredKey) { k.Sealed = next.Sealed }),
		"a row under another name":           with(current, func(k *keyring.StoredKey) { k.KID = next.KID }),
		"a name that is not its thumbprint":  resealed(with(current, func(k *keyring.StoredKey) { k.KID = "current" }), plain),
		"a changed private key": with(current, func(k *keyring.StoredKey) {
			k.Sealed = append(bytes.Clone(k.Sealed[:len(k.Sealed)-1]), ^k.Sealed[len(k.Sealed)-1])
		}),
		"an empty private key":              with(current, func(k *keyring.StoredKey) { k.Sealed = []byte{} }),
		"an invalid private key":            resealed(current, []byte("not a key")),
		"a private key of another curve":    resealed(current, wrongCurve),
		"an algorithm the key is not for":   with(current, func(k *keyring.StoredKey) { k.Alg = "RS256" }),
		"a MAC key that is too short":       resealed(mac, make([]byte, 16)),
		"a MAC key under an invalid name":   with(resealed(with(mac, func(k *keyring.StoredKey) { k.KID = "zz" }), make([]byte, 32)), func(*keyring.StoredKey) {}),
		"a MAC key where a signing key was": with(mac, func(k *keyring.StoredKey) { k.Use = keyring.UseAccess; k.Public = current.Public }),
		"a signing key where a MAC key was": with(current, func(k *keyring.StoredKey) { k.Use = keyring.UseRefresh }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			put(t, s, row)
			r, err := keyring.Open(t.Context(), s, sealer(t, 1), now)
			if err == nil || r != nil || !strings.Contains(err.Error(), row.KID) {
				t.Errorf("Open: %v, want an error that names the key %s", err, row.KID)
			}
			if n := len(stored(t, s)); n != 1 {
				t.Errorf("%d keys were added next to an invalid one", n-1)
			}
		})
	}
}

func TestMasterKey(t *testing.T) {
	t.Parallel()
	t.Run("with the wrong master key the error names a key and says what to check", func(t *testing.T) {
		t.Parallel()
		s := newStore(t)
		open(t, s, now)
		before := stored(t, s)
		_, err := keyring.Open(t.Context(), s, sealer(t, 2), now)
		if !errors.Is(err, seal.ErrOpen) || !strings.Contains(err.Error(), "check that the master key file") {
			t.Fatalf("Open: %v", err)
		}
		if !slices.ContainsFunc(before, func(k keyring.StoredKey) bool { return strings.Contains(err.Error(), k.KID) }) {
			t.Errorf("Open() error = %v, want it to name a key", err)
		}
		if d := cmp.Diff(before, stored(t, s)); d != "" {
			t.Error(d)
		}
	})
	t.Run("with the wrong master key no key is made, even if one is missing", func(t *testing.T) {
		t.Parallel()
		s := newStore(t)
		put(t, s, one(t, fresh(t), keyring.UseAccess, false))
		if _, err := keyring.Open(t.Context(), s, sealer(t, 2), now); !errors.Is(err, seal.ErrOpen) {
			t.Fatalf("Open() error = %v, want %v", err, seal.ErrOpen)
		}
		if n := len(stored(t, s)); n != 1 {
			t.Errorf("%d keys; the right master key is locked out", n)
		}
		open(t, s, now)
	})
	t.Run("a new master key before the old one opens all keys", func(t *testing.T) {
		t.Parallel()
		s := newStore(t)
		first := open(t, s, now)
		second, err := keyring.Open(t.Context(), s, sealer(t, 2, 1), now)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first.JWKS(), second.JWKS()) {
			t.Error("the keys differ")
		}
	})
	t.Run("the master key of retired keys need not be present", func(t *testing.T) {
		t.Parallel()
		s := newStore(t)
		for _, k := range fresh(t) {
			k.RetiredAt = now
			put(t, s, k)
		}
		r, err := keyring.Open(t.Context(), s, sealer(t, 2), now)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(stored(t, s)); n != 8 || len(published(t, r)) != 2 {
			t.Errorf("%d keys, %d published", n, len(published(t, r)))
		}
	})
}
