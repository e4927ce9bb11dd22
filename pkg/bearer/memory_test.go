package bearer_test

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
)

// unsigned returns a token with a wrong signature: if Verify accepts it, it did not check the
// signature.
func unsigned(t testing.TB, change map[string]any) string {
	t.Helper()
	return forgery{claims: change, sign: func(string) []byte { return make([]byte, 64) }}.make(t)
}

func TestMemory(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	t.Run("a remembered token has the same claims", func(t *testing.T) {
		t.Parallel()
		for name, change := range map[string]map[string]any{
			"unbound":                       {},
			"bound":                         {"bound": true, "person": person},
			"with an external id":           {"bound": true, "person": person, "external_id": "1001"},
			"with a Chinese external id":    {"bound": true, "person": person, "external_id": "工号一〇〇一"},
			"with escapes":                  {"bound": true, "person": person, "external_id": `a"b\c&<d>` + "\u2028"},
			"with a very long external id":  {"bound": true, "person": person, "external_id": fmt.Sprintf("%01000d", 1)},
			"whose ids are equal":           {"sub": session, "bound": true, "person": session, "jti": session},
			"whose jti is in another claim": {"jti": "shop"},
			"of the highest ver and epoch":  {"ver": int64(1)<<62 + 1, "epoch": int64(1)<<62 + 1},
			"with one audience":             {"aud": issuer},
			"that lives as long as it may":  {"exp": now.Unix() + 3600},
			"that was issued at the end of time": {
				"iat": int64(253402300799 - 60), "exp": int64(253402300799),
			},
		} {
			at := now
			if iat, ok := change["iat"].(int64); ok {
				at = time.Unix(iat, 0)
			}
			v := local(t, func(l *bearer.Local) { l.Clock = func() time.Time { return at } })
			token := forgery{claims: change}.make(t)
			first, second := wantGood(t, v, token), wantGood(t, v, token)
			if !reflect.DeepEqual(first, second) {
				t.Errorf("a token %s: Verify() = %+v, then %+v", name, first, second)
			}
			want := 1
			if at != now {
				want = 0 // seconds after 2106 have no place
			}
			if n, _ := bearer.Remembered(v); n != want {
				t.Errorf("a token %s: %d tokens are remembered, want %d", name, n, want)
			}
		}
	})
	t.Run("a caller may change the claims", func(t *testing.T) {
		t.Parallel()
		v, token := local(t, nil), forgery{}.make(t)
		for range 3 {
			c := wantGood(t, v, token)
			if c.Audience[1] != "shop" {
				t.Fatalf("Audience = %v after a caller changed it, want shop", c.Audience)
			}
			c.Audience[1] = "changed"
		}
	})
	t.Run("another signature of the same claims is checked", func(t *testing.T) {
		t.Parallel()
		v, token := local(t, nil), forgery{}.make(t)
		wantGood(t, v, token)
		wantError(t, v, forgery{sign: signWith(t, jwt.SigningMethodES256, stranger(t))}.make(t), bearer.ErrInvalid)
		wantError(t, v, token[:len(token)-8]+"AAAAAAAA", bearer.ErrInvalid)
	})
	t.Run("the memory grows to its bound and no further", func(t *testing.T) {
		t.Parallel()
		const bound = 512 << 10
		v := local(t, func(l *bearer.Local) { l.TokenMemory = bound })
		_, empty := bearer.Remembered(v)
		tokens := bound / 60 // more than fit
		for i := range tokens {
			v.UnsafeRemember(ctx, unsigned(t, map[string]any{"ver": i}))
		}
		n, size := bearer.Remembered(v)
		if empty > bound/4 || size > bound || size < bound*3/4 || n < size/100 {
			t.Errorf("the memory has %d bytes when empty, and %d bytes with %d tokens; want a quarter of %d at most, at most %[4]d, and a token for each 100 bytes", empty, size, n, bound)
		}
	})
	t.Run("an expired token makes room before a live one", func(t *testing.T) {
		t.Parallel()
		c := clockAt(now)
		v := local(t, func(l *bearer.Local) { l.TokenMemory, l.Clock = bearer.BucketBytes, c.now })
		for i := range 4 {
			wantGood(t, v, forgery{claims: map[string]any{"ver": i, "exp": now.Unix() + 60}}.make(t))
		}
		var live []string
		for i := range 4 {
			live = append(live, forgery{claims: map[string]any{"ver": 10 + i}}.make(t))
			wantGood(t, v, live[i])
		}
		c.advance(time.Minute)
		for i := range 4 {
			wantGood(t, v, forgery{claims: map[string]any{"ver": 20 + i}}.make(t))
		}
		for i, token := range live {
			if !bearer.IsRemembered(v, token) {
				t.Errorf("live token %d was forgotten while there were expired ones", i)
			}
		}
		wantGood(t, v, forgery{claims: map[string]any{"ver": 30}}.make(t)) // all are live
		if n, _ := bearer.Remembered(v); n != 8 {
			t.Errorf("%d tokens are remembered, want 8", n)
		}
	})
	t.Run("concurrent callers get the claims of their own tokens", func(t *testing.T) {
		t.Parallel()
		v := local(t, func(l *bearer.Local) { l.TokenMemory = 64 << 10 }) // fewer than there are
		var callers sync.WaitGroup
		for caller := range 8 {
			callers.Add(1)
			go func() {
				defer callers.Done()
				for i := range 200 {
					ver := caller*1000 + i
					token := unsigned(t, map[string]any{"ver": ver, "epoch": ver % 7})
					v.UnsafeRemember(ctx, token)
					// Others may have taken the place.
					if c, err := v.Verify(ctx, token); err == nil && (c.Ver != int64(ver) || c.Epoch != int64(ver%7)) {
						t.Errorf("Verify() = %+v, want the ver %d", c, ver)
					}
				}
			}()
		}
		callers.Wait()
	})
	t.Run("all of 5,000 apps are remembered when everything is revoked", func(t *testing.T) {
		t.Parallel()
		v := local(t, func(l *bearer.Local) { l.TokenMemory = 64 << 20 })
		var tokens []string
		for epoch := range 2 {
			for app := range 5000 {
				token := unsigned(t, map[string]any{"client_id": fmt.Sprintf("wxdevelopment%04d", app), "epoch": epoch})
				v.UnsafeRemember(ctx, token)
				tokens = append(tokens, token)
			}
		}
		for i, token := range tokens {
			if !bearer.IsRemembered(v, token) {
				t.Fatalf("token %d of %d was forgotten, of an app with families of %d bytes", i, len(tokens), bearer.FamilyBytes(v))
			}
		}
	})
	t.Run("any number of audiences, epochs and keys needs bounded memory", func(t *testing.T) {
		t.Parallel()
		const bound = 64 << 10
		c := clockAt(now)
		v := local(t, func(l *bearer.Local) { l.TokenMemory, l.Clock = bound, c.now })
		remember := func(epoch int) string {
			token := unsigned(t, map[string]any{"epoch": epoch, "iat": c.now().Unix(), "exp": c.now().Unix() + 3600})
			v.UnsafeRemember(ctx, token)
			if size := bearer.FamilyBytes(v); size > bound/8 {
				t.Fatalf("the families have %d bytes, want at most %d", size, bound/8)
			}
			return token
		}
		first := remember(0)
		var full string
		for epoch := 1; epoch < 100; epoch++ {
			full = remember(epoch)
		}
		families := bearer.Families(v)
		if !bearer.IsRemembered(v, first) || bearer.IsRemembered(v, full) || families < 10 || families > 50 {
			t.Errorf("with %d families, the token of the first one is remembered: %t, and of the last one: %t; want 10 to 50 families, true and false", families, bearer.IsRemembered(v, first), bearer.IsRemembered(v, full))
		}
		c.advance(bearer.MinGeneration - 1)
		if again := remember(0); !bearer.IsRemembered(v, again) {
			t.Error("another token of the first family was not remembered")
		}
		if bearer.IsRemembered(v, remember(100)) {
			t.Error("the families were dropped too early")
		}
		c.advance(1)
		if next := remember(101); !bearer.IsRemembered(v, next) || bearer.Families(v) != 1 {
			t.Errorf("the next token is remembered: %t, with %d families; want true with 1", bearer.IsRemembered(v, next), bearer.Families(v))
		}
	})
	t.Run("concurrent callers replace the families", func(t *testing.T) {
		t.Parallel()
		var at atomic.Int64 // hours, so that any family may replace the others
		v := local(t, func(l *bearer.Local) {
			l.TokenMemory, l.Clock = 8<<10, func() time.Time { return now.Add(time.Duration(at.Load()) * time.Hour) }
		})
		var callers sync.WaitGroup
		for caller := range 8 {
			callers.Add(1)
			go func() {
				defer callers.Done()
				for i := range 200 {
					epoch, iat := caller*1000+i, now.Add(time.Duration(at.Add(1))*time.Hour).Unix()
					token := unsigned(t, map[string]any{"epoch": epoch, "iat": iat, "exp": iat + 3600})
					v.UnsafeRemember(ctx, token)
					if c, err := v.Verify(ctx, token); err == nil && c.Epoch != int64(epoch) {
						t.Errorf("Verify() = %+v, want the epoch %d", c, epoch)
					}
				}
			}()
		}
		callers.Wait()
		if size := bearer.FamilyBytes(v); size > 1<<10 {
			t.Errorf("the families have %d bytes, want at most %d", size, 1<<10)
		}
	})
}

func TestUnsafeRemember(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	t.Run("the first Verify checks no signature", func(t *testing.T) {
		t.Parallel()
		v, token := local(t, nil), unsigned(t, nil)
		wantError(t, v, token, bearer.ErrInvalid)
		v.UnsafeRemember(ctx, token)
		if c := wantGood(t, v, token); c.Session != session {
			t.Errorf("Session = %s, want %s", c.Session, session)
		}
	})
	t.Run("the token is checked otherwise", func(t *testing.T) {
		t.Parallel()
		for name, token := range map[string]string{
			"of another issuer": unsigned(t, map[string]any{"iss": "https://other.example.com"}),
			"of the future":     unsigned(t, map[string]any{"iat": now.Unix() + 3600, "exp": now.Unix() + 4000}),
			"expired":           unsigned(t, map[string]any{"iat": now.Unix() - 60, "exp": now.Unix()}),
			"of no known key":   forgery{header: map[string]any{"kid": "other"}}.make(t),
			"of another alg":    forgery{header: map[string]any{"alg": "RS256"}}.make(t),
			"malformed":         "a.b.c",
			"too long":          unsigned(t, map[string]any{"more": fmt.Sprintf("%012000d", 1)}),
		} {
			v := local(t, nil)
			v.UnsafeRemember(ctx, token)
			if n, _ := bearer.Remembered(v); n != 0 {
				t.Errorf("a token %s is remembered", name)
			}
		}
	})
	t.Run("expiry, cutoffs, the key and the age of the data are checked each time", func(t *testing.T) {
		t.Parallel()
		c, set, ring, age := clockAt(now), cutoff.NewSet(), keyring{"ec": keys["ec"]}, time.Duration(0)
		v := local(t, func(l *bearer.Local) {
			l.Clock, l.Cutoffs, l.Keys, l.Staleness = c.now, set, ring.find, func() time.Duration { return age }
		})
		token := unsigned(t, nil)
		v.UnsafeRemember(ctx, token)
		wantGood(t, v, token)
		age = time.Hour
		wantError(t, v, token, bearer.ErrStale)
		age = 0
		delete(ring, "ec")
		wantError(t, v, token, bearer.ErrInvalid)
		ring["ec"] = keys["ec"]
		wantGood(t, v, token)
		set.Add(sessionCutoff(4), now)
		wantError(t, v, token, bearer.ErrRevoked)
		other := unsigned(t, map[string]any{"sid": user})
		v.UnsafeRemember(ctx, other)
		wantGood(t, v, other)
		c.advance(10 * time.Minute)
		wantError(t, v, other, bearer.ErrExpired)
	})
}
