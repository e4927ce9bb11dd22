package oauth_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/yufu-auth/yufu/api/oauth"
	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/servicekey"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
	"github.com/yufu-auth/yufu/pkg/token"
)

// TestIntrospectionAsksNoDatabase counts the queries: some for the service keys once a
// second, one for an openid, and no others.
func TestIntrospectionAsksNoDatabase(t *testing.T) {
	t.Parallel()
	trips := &atomic.Int64{}
	store, err := postgres.Open(t.Context(), pgtest.Empty(t), postgres.WithTracer(tripCounter{trips}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	if err := store.Migrate(t.Context(), shardtest.Sealed); err != nil {
		t.Fatal(err)
	}
	f := sessiontest.New(t, store, session.Lifetimes{})
	verifier, err := token.NewVerifier(bearer.Local{
		Issuer: sessiontest.Issuer, Keys: f.Keys.VerificationKey,
		Cutoffs: f.Cutoffs.Set(), Staleness: f.Cutoffs.Age, MaxStaleness: sessiontest.MaxStaleness, Clock: f.Clock.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	d, err := servicekey.NewDraft("a test", []string{"service", "openid"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	k, presented := servicekey.Generate(d, f.Clock.Now())
	if err := store.AddServiceKey(t.Context(), k, f.Event(auth.AuditServiceKeyAdded)); err != nil {
		t.Fatal(err)
	}
	keys := servicekey.NewAuthenticator(store, 0, f.Clock.Now, f.Clock.Now) // the clock stands, so the keys are read once
	t.Cleanup(keys.Close)
	h := oauth.NewIntrospection(web.NewGuard(keys), verifier, &database{}, store, nil)
	t.Cleanup(h.Close)
	router := chi.NewRouter()
	router.Use(web.Events(slog.New(slog.DiscardHandler), func(web.Observation) {}, time.Now))
	h.Mount(router)
	introspect := func(token string, active bool) {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/oauth2/introspect", strings.NewReader(form("token", token)))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Authorization", "Bearer "+presented.Key().Reveal())
		w := httptest.NewRecorder()
		router.ServeHTTP(w, r)
		if w.Code != http.StatusOK || strings.HasPrefix(w.Body.String(), `{"active":true,`) != active {
			t.Fatalf("POST /oauth2/introspect: status and body = %d %s, want 200 and active = %t", w.Code, w.Body, active)
		}
	}

	good, ended := f.Login("alice"), f.Login("bob")
	if _, err := f.Service.Revoke(t.Context(), session.RevokeRequest{ClientID: sessiontest.AppID, Token: ended.AccessToken}); err != nil {
		t.Fatal(err)
	}
	before := trips.Load()
	introspect(good.AccessToken.Reveal(), true)
	if n := trips.Load() - before; n < 2 {
		t.Errorf("the first introspection made %d queries, want those for the service keys and the openid", n)
	}
	keys.Close() // writes the time of the key's last use
	before = trips.Load()
	for range 100 {
		introspect(good.AccessToken.Reveal(), true)
		introspect(ended.AccessToken.Reveal(), false)
		introspect(good.RefreshToken.Reveal(), false)
		introspect("x", false)
	}
	if n := trips.Load() - before; n != 0 {
		t.Errorf("400 more introspections made %d queries, want 0", n)
	}
}
