package bearer_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
)

// claims is the claims type for golang-jwt on its own, as fast as it can be.
type claims struct {
	jwt.RegisteredClaims
	App     string `json:"client_id"`
	Session string `json:"sid"`
	Ver     int64  `json:"ver"`
	Epoch   int64  `json:"epoch"`
	Bound   bool   `json:"bound"`
	Person  string `json:"person"`
}

var parser = jwt.NewParser(
	jwt.WithValidMethods([]string{"ES256", "EdDSA", "RS256"}),
	jwt.WithIssuer(issuer), jwt.WithAudience(issuer), jwt.WithExpirationRequired(),
	jwt.WithStrictDecoding(), jwt.WithTimeFunc(func() time.Time { return now }),
)

// golangJWT verifies only with golang-jwt and its options.
func golangJWT(token string) error {
	_, err := parser.ParseWithClaims(token, &claims{}, func(t *jwt.Token) (any, error) {
		return keys[t.Header["kid"].(string)].private.Public(), nil
	})
	return err
}

// BenchmarkVerify compares an uncached token (cold), a cached one (warm), and golang-jwt
// on its own with the most similar options. The set holds the cutoffs of a busy hour.
func BenchmarkVerify(b *testing.B) {
	set := cutoff.NewSet()
	for i := range 10_000 {
		set.Add(cutoff.Cutoff{Kind: cutoff.KindSession, Session: fmt.Sprintf("01900000-0000-7c00-9000-%012d", i)}, now)
	}
	for app := range 20 {
		set.Add(cutoff.Cutoff{Kind: cutoff.KindApp, App: fmt.Sprint("wx", app), Epoch: 2}, now)
	}
	set.Add(cutoff.Cutoff{Kind: cutoff.KindKey, KID: "gone"}, now)
	verifier := func(size int) *bearer.Verifier {
		v, err := bearer.NewLocal(bearer.Local{
			Issuer: issuer, Keys: keys.find, Cutoffs: set, TokenMemory: size,
			Staleness: func() time.Duration { return 0 }, Clock: func() time.Time { return now },
		})
		if err != nil {
			b.Fatal(err)
		}
		return v
	}
	warm, cold := verifier(0), verifier(-1)
	for _, kid := range []string{"ec", "ed", "rs"} {
		k := keys[kid]
		token := forgery{header: map[string]any{"kid": kid, "alg": k.alg}, sign: signWith(b, jwt.GetSigningMethod(k.alg), k.private)}.make(b)
		for _, c := range []struct {
			name   string
			verify func() error
		}{
			{"warm", func() error { _, err := warm.Verify(context.Background(), token); return err }},
			{"cold", func() error { _, err := cold.Verify(context.Background(), token); return err }},
			{"golang-jwt", func() error { return golangJWT(token) }},
		} {
			b.Run(k.alg+"/"+c.name+"/serial", func(b *testing.B) {
				b.ReportAllocs()
				for range b.N {
					if err := c.verify(); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(k.alg+"/"+c.name+"/parallel", func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if err := c.verify(); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}

// BenchmarkAgainstBare measures the two goals: the nanoseconds for a cached token, and
// the time for an uncached one as a multiple of golang-jwt's. The measurements alternate
// and medians are reported, so that other work on the machine hardly counts.
func BenchmarkAgainstBare(b *testing.B) {
	verifier := func(size int) *bearer.Verifier {
		return local(b, func(l *bearer.Local) { l.TokenMemory = size })
	}
	warm, cold := verifier(0), verifier(-1)
	const batch = 100 // the clock is too coarse for a single cached token
	for _, kid := range []string{"ec", "ed", "rs"} {
		k := keys[kid]
		token := forgery{header: map[string]any{"kid": kid, "alg": k.alg}, sign: signWith(b, jwt.GetSigningMethod(k.alg), k.private)}.make(b)
		b.Run(k.alg, func(b *testing.B) {
			verify := func(v *bearer.Verifier) {
				if _, err := v.Verify(context.Background(), token); err != nil {
					b.Fatal(err)
				}
			}
			verify(warm)
			var took [3][]time.Duration
			for range b.N {
				for i, f := range []func(){
					func() { verify(cold) },
					func() {
						if err := golangJWT(token); err != nil {
							b.Fatal(err)
						}
					},
					func() {
						for range batch {
							verify(warm)
						}
					},
				} {
					began := time.Now()
					f()
					took[i] = append(took[i], time.Since(began))
				}
			}
			for i := range took {
				slices.Sort(took[i])
			}
			median := func(i int) float64 { return float64(took[i][len(took[i])/2]) }
			b.ReportMetric(median(2)/batch, "warm-ns")
			b.ReportMetric(median(0), "cold-ns")
			b.ReportMetric(median(0)/median(1), "cold/bare")
		})
	}
}

// BenchmarkTokenMemory measures the memory of 100,000 users with a person and an external
// id, and the time of a remembered token of theirs against one of 1,000 users. The two are
// measured in turn: of-few is the time with few users as a share of that with many.
func BenchmarkTokenMemory(b *testing.B) {
	const users, few, batch = 100_000, 1000, 100
	tokens := make([]string, users)
	for i := range tokens {
		id := func(of int) string { return fmt.Sprintf("01900000-0000-7c0%d-8000-%012x", of, i+1) }
		tokens[i] = unsigned(b, map[string]any{
			"sid": id(0), "sub": id(1), "jti": fmt.Sprintf("J7PYZ3MZJ2UUDQ3E2V%08d", i), "bound": true, "person": id(2), "external_id": fmt.Sprint("E-", i),
		})
	}
	held := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	remember := func(tokens []string) *bearer.Verifier {
		v := local(b, func(l *bearer.Local) { l.TokenMemory = 64 << 20 })
		for _, token := range tokens {
			v.UnsafeRemember(context.Background(), token)
		}
		return v
	}
	before := held()
	many := remember(tokens)
	size := held() - before
	verifiers := [2]*bearer.Verifier{remember(tokens[:few]), many}
	if n, _ := bearer.Remembered(many); n != users {
		b.Fatalf("%d tokens are remembered, want %d", n, users)
	}
	var took [2][]time.Duration
	for n := range b.N {
		for i, v := range verifiers {
			// A service has just read a token when it verifies it.
			var read [batch]string
			for k := range read {
				read[k] = strings.Clone(tokens[(n*batch+k)*7919%[2]int{few, users}[i]])
			}
			began := time.Now()
			for _, token := range read {
				if _, err := v.Verify(context.Background(), token); err != nil {
					b.Fatal(err)
				}
			}
			took[i] = append(took[i], time.Since(began))
		}
	}
	median := func(i int) float64 { slices.Sort(took[i]); return float64(took[i][len(took[i])/2]) }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(size/(1<<20), "MiB")
	b.ReportMetric(size/users, "B/token")
	b.ReportMetric(median(1)/batch, "warm-ns")
	b.ReportMetric(median(0)/median(1), "of-few")
}
