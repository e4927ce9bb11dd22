package keyring_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
)

// validator keeps a copy of the JWK set for exactly as long as it may, and never
// asks again before.
type validator struct {
	fetched time.Time
	keys    map[string]map[string]string
}

// TestRandomCommands runs days of random commands, with replicas that learn of them late,
// clocks that differ and replicas that restart. It checks that every validator and every
// replica accepts each signature for as long as it is valid, and that a replica that
// follows accepts no signature of a compromised key.
func TestRandomCommands(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 5))
			// The shortest settings, so that much happens.
			p := keyring.Policy{Rotation: time.Hour, JWKSMaxAge: 20 * time.Second, SessionMaxTTL: 6 * time.Hour}
			f := newFleet(t, 3, p)
			for i, r := range f.replicas {
				r.skew = time.Duration(i-1) * 2 * time.Second
			}
			validators := make([]validator, 4)
			// The time until which the signatures of each key are valid.
			access, refresh := map[string]time.Time{}, map[string]time.Time{}
			dead := map[string]bool{}
			rotations, emergencies := 0, 0
			for range 700 {
				// Mostly seconds; sometimes a long time in which the replicas only read
				// earlier changes.
				step := time.Duration(random.Int64N(int64(3 * time.Second)))
				if random.IntN(4) == 0 {
					f.follow()
					step = time.Duration(random.Int64N(int64(10 * time.Minute)))
				}
				f.pass(step)
				for _, r := range f.replicas {
					if f.now.Sub(r.heard) > 3*time.Second || random.IntN(2) == 0 {
						if err := r.ReloadIfChanged(t.Context()); err != nil {
							t.Fatal(err)
						}
						r.heard = f.now
					}
				}
				any := f.replicas[random.IntN(len(f.replicas))]
				if err := any.ApplyPolicy(t.Context()); err != nil {
					t.Fatal(err)
				}
				switch random.IntN(20) {
				case 0:
					if _, err := any.Rotate(t.Context(), keyring.RotateRequest{}); err != nil {
						t.Fatal(err)
					}
					rotations++
				case 1:
					// Not the only key that validators know: they would refuse its
					// successor.
					if kid := spare(f.keys(keyring.UseAccess), f.now); kid != "" {
						if _, err := any.Retire(t.Context(), keyring.RetireRequest{KID: kid, Compromised: true}); err != nil {
							t.Fatal(err)
						}
						dead[kid] = true
						emergencies++
					}
				case 2:
					// A replica restarts and reads all keys at once.
					i := random.IntN(len(f.replicas))
					skew := f.replicas[i].skew
					f.replicas[i] = f.start(skew)
					f.replicas = f.replicas[:len(f.replicas)-1]
				}

				for _, r := range f.replicas {
					here := f.now.Add(r.skew)
					kid := signingKID(t, r.Ring, here)
					if until := f.now.Add(auth.MaxAccessTokenTTL); until.After(access[kid]) {
						access[kid] = until
					}
					mac := macKID(t, r.Ring, here)
					if until := f.now.Add(p.SessionMaxTTL); until.After(refresh[mac]) {
						refresh[mac] = until
					}
				}
				for i := range validators {
					v := &validators[i]
					if f.now.Sub(v.fetched) >= p.JWKSMaxAge {
						v.fetched, v.keys = f.now, published(t, f.replicas[random.IntN(len(f.replicas))].Ring)
					}
					for kid, until := range access {
						if until.After(f.now) && !dead[kid] && v.keys[kid] == nil {
							t.Fatalf("seed %d: validator %d refuses a token signed by %s", seed, i, kid)
						}
					}
				}
				for i, r := range f.replicas {
					for mac, until := range refresh {
						var id uint32
						if _, err := fmt.Sscanf(mac, "%x", &id); err != nil {
							t.Fatal(err)
						}
						if _, ok := r.MACKey(id); !ok && until.After(f.now) {
							t.Fatalf("seed %d: replica %d refuses a token signed by %s", seed, i, mac)
						}
					}
				}
			}
			f.follow()
			for kid := range dead {
				for i, r := range f.replicas {
					if _, _, ok := r.VerificationKey(kid); ok {
						t.Errorf("seed %d: replica %d accepts a token signed by the compromised key %s", seed, i, kid)
					}
				}
			}
			kinds := slices.Sorted(maps.Keys(access))
			t.Logf("%d keys signed, %d rotations by command, %d emergencies, %s", len(kinds), rotations, emergencies, f.now.Sub(now))
			if len(kinds) < 8 || rotations == 0 || emergencies == 0 {
				t.Error("too few changes happened for a meaningful test")
			}
		})
	}
}

// spare returns a signing key that is not the only one that validators know, or "".
func spare(keys []keyring.Key, now time.Time) string {
	known, current := 0, ""
	for _, k := range keys {
		if k.State != keyring.Retired && !k.KnownAt.After(now) {
			known++
		}
		if k.State == keyring.Current {
			current = k.KID
		}
	}
	if known < 2 {
		return ""
	}
	return current
}
