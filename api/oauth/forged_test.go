package oauth_test

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/yufu-auth/yufu/api/oauth"
	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/db/sqlite"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// TestForgedTokens checks that a token that differs from ours in a single bit causes no
// query.
func TestForgedTokens(t *testing.T) {
	t.Parallel()
	var trips atomic.Int64
	store, err := postgres.Open(t.Context(), pgtest.Empty(t), postgres.WithTracer(tripCounter{&trips}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	if err := store.Migrate(t.Context(), shardtest.Sealed); err != nil {
		t.Fatal(err)
	}
	fixture := sessiontest.New(t, store, session.Lifetimes{})
	router := chi.NewRouter()
	oauth.New(sessiontest.Issuer, fixture.Service, fixture.Keys, unlimited, 5*time.Minute).Mount(router)

	// ask returns the answer, and the number of round trips to the database.
	ask := func(path string, pairs ...string) (*httptest.ResponseRecorder, int64) {
		before := trips.Load()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(form(pairs...)))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		router.ServeHTTP(w, r)
		return w, trips.Load() - before
	}
	refresh := func(token string) (*httptest.ResponseRecorder, int64) {
		return ask("/oauth2/token", "grant_type", "refresh_token", "client_id", sessiontest.AppID, "refresh_token", token)
	}
	revoke := func(token string) (*httptest.ResponseRecorder, int64) {
		return ask("/oauth2/revoke", "client_id", sessiontest.AppID, "token", token)
	}
	wantRefused := func(t *testing.T, what, token string) {
		t.Helper()
		w, n := refresh(token)
		// A byte that is not UTF-8 is refused with the form.
		refused := strings.Contains(w.Body.String(), `"refresh_invalid"`) || strings.Contains(w.Body.String(), `"invalid_request"`)
		if w.Code != http.StatusBadRequest || !refused || n != 0 {
			t.Errorf("%s: status and body = %d %s after %d round trips, want a refusal with 400 after 0", what, w.Code, w.Body, n)
		}
		if w, n := revoke(token); w.Code != http.StatusOK && w.Code != http.StatusBadRequest || n != 0 {
			t.Errorf("revoking %s: status and body = %d %s after %d round trips, want 200 or 400 after 0", what, w.Code, w.Body, n)
		}
	}
	grant := fixture.Login("alice")

	t.Run("a refresh token with one bit flipped is refused", func(t *testing.T) {
		eachFlip(grant.RefreshToken.Reveal(), func(flipped string) { wantRefused(t, "a flipped token", flipped) })
	})
	t.Run("a refresh token with a character more or less is refused", func(t *testing.T) {
		token := grant.RefreshToken.Reveal()
		for i := range token {
			wantRefused(t, "a shorter token", token[:i]+token[i+1:])
			wantRefused(t, "a longer token", token[:i]+"A"+token[i:])
		}
		for _, more := range []string{"=", "A", " ", "\n", "\x00", token} {
			wantRefused(t, "a token and more", token+more)
		}
	})
	t.Run("a refresh token of another deployment is refused", func(t *testing.T) {
		wantRefused(t, "another deployment's", elsewhere(t).Login("alice").RefreshToken.Reveal())
	})
	t.Run("an access token is refused as a refresh token", func(t *testing.T) {
		if w, n := refresh(grant.AccessToken.Reveal()); w.Code != http.StatusBadRequest || n != 0 {
			t.Errorf("POST /oauth2/token: status and body = %d %s after %d round trips, want 400 after 0", w.Code, w.Body, n)
		}
	})
	t.Run("an access token with one bit flipped is refused", func(t *testing.T) {
		eachFlip(grant.AccessToken.Reveal(), func(flipped string) {
			if w, n := revoke(flipped); n != 0 {
				t.Errorf("POST /oauth2/revoke: status and body = %d %s after %d round trips, want 0", w.Code, w.Body, n)
			}
		})
	})
	t.Run("an access token of another deployment with the same issuer is refused", func(t *testing.T) {
		if w, n := revoke(elsewhere(t).Login("alice").AccessToken.Reveal()); w.Code != http.StatusOK || n != 0 {
			t.Errorf("POST /oauth2/revoke: status and body = %d %s after %d round trips, want 200 after 0", w.Code, w.Body, n)
		}
	})
	t.Run("the session of the original tokens goes on", func(t *testing.T) {
		w, n := refresh(grant.RefreshToken.Reveal())
		if w.Code != http.StatusOK || n == 0 {
			t.Errorf("POST /oauth2/token: status and body = %d %s after %d round trips, want 200 after at least 1", w.Code, w.Body, n)
		}
	})
}

// eachFlip calls use with the token for each of its bits flipped.
func eachFlip(token string, use func(flipped string)) {
	for i := range token {
		for bit := range 8 {
			b := []byte(token)
			b[i] ^= 1 << bit
			use(string(b))
		}
	}
}

// elsewhere returns another deployment, with its own keys.
func elsewhere(t *testing.T) *sessiontest.Fixture {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "yufu.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	if err := store.Migrate(t.Context(), shardtest.Sealed); err != nil {
		t.Fatal(err)
	}
	if err := store.Claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	return sessiontest.New(t, store, session.Lifetimes{})
}
