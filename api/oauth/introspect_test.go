package oauth_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/api/oauth"
	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/db/sqlite"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/servicekey"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
	"github.com/yufu-auth/yufu/pkg/token"
)

// inspector is a world with the introspection endpoint.
type inspector struct {
	*world
	keys servicekey.Store
	*database
}

// database answers the reads of introspection. It can be unavailable.
type database struct {
	oauth.Accounts
	// exposes are the attributes in the policy of every app.
	exposes []string
	// away: it does not answer, and the replica knows. fails: it returns errors, and
	// the replica does not know yet. hangs: it never answers.
	away, fails, hangs atomic.Bool
	asked              atomic.Int64
}

func (d *database) App(appID string) (auth.App, error) {
	return auth.App{ID: appID, Policy: auth.Policy{Attributes: d.exposes}}, nil
}

func (d *database) Answering() bool { return !d.away.Load() }

func (d *database) ask(ctx context.Context) (int64, error) {
	n := d.asked.Add(1)
	if d.hangs.Load() {
		<-ctx.Done()
		return n, ctx.Err()
	}
	if d.away.Load() || d.fails.Load() {
		return n, auth.StorageUnavailable
	}
	return n, nil
}

func (d *database) PlatformAccount(ctx context.Context, identity uuid.UUID) (auth.PlatformAccount, error) {
	if _, err := d.ask(ctx); err != nil {
		return auth.PlatformAccount{}, err
	}
	return d.Accounts.PlatformAccount(ctx, identity)
}

// ExposedAttributes returns for every name but "none" the person and the number of reads.
func (d *database) ExposedAttributes(ctx context.Context, person uuid.UUID, names []string) (map[string]json.RawMessage, error) {
	n, err := d.ask(ctx)
	if err != nil {
		return nil, err
	}
	m := map[string]json.RawMessage{}
	for _, name := range names {
		if name != "none" {
			m[name] = fmt.Appendf(nil, `[%q,%d]`, person, n)
		}
	}
	return m, nil
}

// ExternalID returns the person and the number of reads.
func (d *database) ExternalID(ctx context.Context, person uuid.UUID) (string, error) {
	n, err := d.ask(ctx)
	return fmt.Sprintf("E %s %d", person, n), err
}

// newInspector returns an inspector whose apps expose these attributes of persons.
func newInspector(t *testing.T, exposes ...string) *inspector {
	t.Helper()
	i := &inspector{database: &database{exposes: exposes}}
	i.world = newWorldWith(t, func(w *world, store *sqlite.Store, r chi.Router) {
		i.keys, i.Accounts = store, store
		// With no bound on the age of keys, the clock may advance.
		keys := servicekey.NewAuthenticator(store, 0, time.Now, time.Now)
		h := oauth.NewIntrospection(web.NewGuard(keys), w.memoryVerifier(t), i.database, i.database, i.database)
		t.Cleanup(func() { h.Close(); keys.Close() })
		h.Mount(r)
	})
	return i
}

// memoryVerifier returns a verifier that works from memory while that is fresh.
func (w *world) memoryVerifier(t testing.TB) *token.Verifier {
	t.Helper()
	v, err := token.NewVerifier(bearer.Local{
		Issuer: sessiontest.Issuer, Keys: w.Keys.VerificationKey,
		Cutoffs: w.Cutoffs.Set(), Staleness: w.Cutoffs.Age, MaxStaleness: sessiontest.MaxStaleness, Clock: w.Clock.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// key makes a service key.
func (i *inspector) key(t *testing.T, scopes string, apps ...string) servicekey.Presented {
	t.Helper()
	d, err := servicekey.NewDraft("a test", strings.Fields(scopes), apps)
	if err != nil {
		t.Fatal(err)
	}
	k, p := servicekey.Generate(d, time.Now())
	if err := i.keys.AddServiceKey(t.Context(), k, i.Event(auth.AuditServiceKeyAdded)); err != nil {
		t.Fatal(err)
	}
	return p
}

func authorized(value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", value) }
}

func (i *inspector) introspect(t *testing.T, key servicekey.Presented, token string, more ...string) answer {
	t.Helper()
	return i.do(t, http.MethodPost, "/oauth2/introspect", form(append([]string{"token", token}, more...)...),
		authorized("Bearer "+key.Key().Reveal()))
}

// wantInactive fails the test unless the answer is that of every inactive token.
func wantInactive(t *testing.T, a answer) {
	t.Helper()
	if a.Status != http.StatusOK || string(a.Body) != `{"active":false}`+"\n" {
		t.Errorf("POST /oauth2/introspect: status and body = %d %s, want 200 and not active", a.Status, a.Body)
	}
	wantSecret(t, a)
}

// bind inserts a person and binds the user's sessions to it.
func (w *world) bind(t *testing.T, g *session.Grant) uuid.UUID {
	t.Helper()
	person := uuid.Must(uuid.NewV7())
	w.exec(t, `insert into persons (id, external_id, name, created_at) values (?, ?, '李雷', 0)`, person.String(), person.String())
	w.exec(t, `update identities set person_id = ? where uuid = ?`, person.String(), g.Session.Identity.String())
	w.exec(t, `update sessions set person_id = ?, ver = ver + 1 where id = ?`, person.String(), g.Session.ID.String())
	next, err := w.Refresh(g.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	*g = next
	return person
}

func TestIntrospection(t *testing.T) {
	t.Parallel()
	t.Run("a valid token is answered with its claims only", func(t *testing.T) {
		t.Parallel()
		i := newInspector(t)
		key := i.key(t, "service")
		g := i.Login("alice")
		want := func() map[string]any {
			s := &g.Session
			claims, err := i.Verifier.Verify(t.Context(), g.AccessToken.Reveal())
			if err != nil {
				t.Fatal(err)
			}
			m := map[string]any{
				"active": true, "token_type": "Bearer", "iss": sessiontest.Issuer, "sub": s.Identity.String(),
				"aud": []any{sessiontest.Issuer, sessiontest.Audience}, "client_id": sessiontest.AppID,
				"iat": float64(i.Clock.Now().Unix()), "exp": float64(claims.ExpiresAt.Unix()), "jti": claims.ID,
				"sid": s.ID.String(), "ver": float64(s.Ver), "epoch": 0.0, "bound": s.Bound(),
			}
			if s.Bound() {
				m["person"], m["external_id"] = s.Person.ID.String(), s.Person.ExternalID
			}
			return m
		}
		a := i.introspect(t, key, g.AccessToken.Reveal())
		wantSecret(t, a)
		if d := cmp.Diff(want(), a.members(t)); d != "" {
			t.Errorf("answer for an unbound user (-want +got):\n%s", d)
		}
		i.bind(t, &g)
		if d := cmp.Diff(want(), i.introspect(t, key, g.AccessToken.Reveal()).members(t)); d != "" {
			t.Errorf("answer for a bound user (-want +got):\n%s", d)
		}
	})
	t.Run("the key may be sent as Basic, and any hint is ignored", func(t *testing.T) {
		t.Parallel()
		i := newInspector(t)
		key, token := i.key(t, "service"), i.Login("alice").AccessToken.Reveal()
		for _, password := range []string{key.Secret.Reveal(), key.Key().Reveal()} {
			basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(key.ID+":"+password))
			a := i.do(t, http.MethodPost, "/oauth2/introspect", form("token", token), authorized(basic))
			if a.Status != http.StatusOK || a.members(t)["active"] != true {
				t.Errorf("POST /oauth2/introspect: status and body = %d %s, want 200 and active", a.Status, a.Body)
			}
		}
		for _, hint := range []string{"access_token", "refresh_token", "nonsense"} {
			if a := i.introspect(t, key, token, "token_type_hint", hint); a.members(t)["active"] != true {
				t.Errorf("POST /oauth2/introspect: status and body = %d %s, want active", a.Status, a.Body)
			}
		}
	})
	t.Run("every inactive token gets the same answer", func(t *testing.T) {
		t.Parallel()
		i := newInspector(t)
		key := i.key(t, "service openid")
		good, ended := i.Login("alice"), i.Login("alice")
		i.revoke(t, ended.RefreshToken.Reveal())
		head, signature, _ := strings.Cut(good.AccessToken.Reveal(), ".")
		for name, token := range map[string]string{
			"a refresh token":            good.RefreshToken.Reveal(),
			"a revoked token":            ended.AccessToken.Reveal(),
			"a token with padding":       good.AccessToken.Reveal() + "=",
			"another header":             strings.ToLower(head) + "." + signature,
			"a text that is not a token": "x",
			"a service key":              key.Key().Reveal(),
			"a session":                  good.Session.ID.String(),
			"a long text":                strings.Repeat("A", 9<<10),
		} {
			t.Run(name+" is inactive", func(t *testing.T) { wantInactive(t, i.introspect(t, key, token)) })
		}
		i.Clock.Advance(sessiontest.AccessTTL)
		t.Run("an expired token is inactive", func(t *testing.T) { wantInactive(t, i.introspect(t, key, good.AccessToken.Reveal())) })
	})
	t.Run("tokens are inactive for a key of other apps", func(t *testing.T) {
		t.Parallel()
		i := newInspector(t)
		token := i.Login("alice").AccessToken.Reveal()
		wantInactive(t, i.introspect(t, i.key(t, "service openid", sessiontest.OtherAppID), token))
		for _, apps := range [][]string{{sessiontest.AppID}, {sessiontest.OtherAppID, sessiontest.AppID}} {
			if a := i.introspect(t, i.key(t, "service", apps...), token); a.members(t)["active"] != true {
				t.Errorf("POST /oauth2/introspect: body = %s, want active", a.Body)
			}
		}
	})
	t.Run("only the scope openid shows openid and unionid", func(t *testing.T) {
		t.Parallel()
		i := newInspector(t)
		g := i.Login("alice")
		open := i.key(t, "service openid")
		openID := i.introspect(t, open, g.AccessToken.Reveal()).members(t)
		if s, _ := openID["openid"].(string); s == "" || openID["unionid"] != nil {
			t.Errorf("members = %v, want an openid and no unionid", openID)
		}
		i.exec(t, `update identities set unionid = 'u-1' where uuid = ?`, g.Session.Identity.String())
		next, err := i.Service.Exchange(t.Context(), session.ExchangeRequest{ClientID: sessiontest.AppID, Code: auth.Secret(i.Simulator.NewCode("alice"))})
		if err != nil {
			t.Fatal(err)
		}
		m := i.introspect(t, open, next.AccessToken.Reveal()).members(t)
		if m["openid"] != openID["openid"] || m["unionid"] != "u-1" {
			t.Errorf("members = %v, want the same openid and the unionid u-1", m)
		}
		m = i.introspect(t, i.key(t, "service"), next.AccessToken.Reveal()).members(t)
		if m["active"] != true || m["openid"] != nil || m["unionid"] != nil {
			t.Errorf("without the scope openid the answer is %v", m)
		}
	})
	t.Run("a user whose subject is no openid has a unionid and no openid", func(t *testing.T) {
		t.Parallel()
		i := newInspector(t)
		g := i.Login("alice")
		i.exec(t, `update identities set subject_kind = 'user_id', unionid = 'u-1' where uuid = ?`, g.Session.Identity.String())
		m := i.introspect(t, i.key(t, "service openid"), g.AccessToken.Reveal()).members(t)
		if _, has := m["openid"]; has || m["active"] != true || m["unionid"] != "u-1" {
			t.Errorf("members = %v, want the unionid u-1 and no openid", m)
		}
	})
	t.Run("the answer is 503 when revocations are not known", func(t *testing.T) {
		t.Parallel()
		i := newInspector(t)
		key := i.key(t, "service")
		good, ended := i.Login("alice"), i.Login("bob")
		i.revoke(t, ended.RefreshToken.Reveal())
		i.Clock.Advance(sessiontest.MaxStaleness + time.Second)
		a := i.introspect(t, key, good.AccessToken.Reveal())
		wantError(t, a, http.StatusServiceUnavailable, "temporarily_unavailable", "storage_unavailable")
		if a.Header.Get("Retry-After") == "" {
			t.Error("the answer has no Retry-After")
		}
		// A token that is known to be invalid stays inactive.
		wantInactive(t, i.introspect(t, key, ended.AccessToken.Reveal()))
		wantInactive(t, i.introspect(t, key, "x"))
		if err := i.Cutoffs.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		if a := i.introspect(t, key, good.AccessToken.Reveal()); a.members(t)["active"] != true {
			t.Errorf("POST /oauth2/introspect: status and body = %d %s, want active", a.Status, a.Body)
		}
	})
	t.Run("only service keys are accepted", func(t *testing.T) {
		t.Parallel()
		i := newInspector(t)
		token := i.Login("alice").AccessToken.Reveal()
		reader, good := i.key(t, "read openid"), i.key(t, "service")
		basic := func(id, secret string) string {
			return "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))
		}
		for name, tc := range map[string]struct {
			authorization string
			status        int
			oauth, code   string
			challenge     string
		}{
			"no key":                    {"", 401, "invalid_client", "service_key_missing", `Bearer realm="yufu"`},
			"the token itself":          {"Bearer " + token, 401, "invalid_client", "service_key_invalid", `Bearer realm="yufu", error="invalid_token"`},
			"a wrong secret":            {basic(good.ID, reader.Secret.Reveal()), 401, "invalid_client", "service_key_invalid", `Basic realm="yufu"`},
			"a client_id without a key": {basic(sessiontest.AppID, ""), 401, "invalid_client", "service_key_invalid", `Basic realm="yufu"`},
			"another scope":             {"Bearer " + reader.Key().Reveal(), 403, "insufficient_scope", "insufficient_scope", `Bearer realm="yufu", error="insufficient_scope", scope="service"`},
		} {
			a := i.do(t, http.MethodPost, "/oauth2/introspect", form("token", token), func(r *http.Request) {
				if tc.authorization != "" {
					r.Header.Set("Authorization", tc.authorization)
				}
			})
			wantError(t, a, tc.status, tc.oauth, tc.code)
			if got := a.Header.Get("WWW-Authenticate"); !strings.HasPrefix(got, tc.challenge) {
				t.Errorf("%s: WWW-Authenticate %q", name, got)
			}
		}
	})
	t.Run("malformed requests are refused", func(t *testing.T) {
		t.Parallel()
		i := newInspector(t)
		key := authorized("Bearer " + i.key(t, "service").Key().Reveal())
		for _, body := range []string{"", "token=", "token=x&token=y", "%zz"} {
			wantError(t, i.do(t, http.MethodPost, "/oauth2/introspect", body, key), 400, "invalid_request", "invalid_request")
		}
		wantError(t, i.do(t, http.MethodPost, "/oauth2/introspect?token=x", "", key), 400, "invalid_request", "invalid_request")
		wantError(t, i.do(t, http.MethodGet, "/oauth2/introspect", "", key), 405, "invalid_request", "method_not_allowed")
	})
}

// about returns the attributes of a person at the nth read.
func about(person uuid.UUID, n float64) map[string]any {
	return map[string]any{"about": []any{person.String(), n}}
}

func TestIntrospectionShowsAttributes(t *testing.T) {
	t.Parallel()
	i := newInspector(t, "about")
	key := i.key(t, "service")
	g := i.Login("alice")
	attributes := func() any {
		t.Helper()
		m := i.introspect(t, key, g.AccessToken.Reveal()).members(t)
		if m["active"] != true {
			t.Errorf("answer = %v, want an active token", m)
		}
		return m["attributes"]
	}
	if got := attributes(); got != nil || i.asked.Load() != 0 {
		t.Errorf("attributes of an unbound user = %v", got)
	}
	person := i.bind(t, &g)
	t.Run("attributes are read once for many requests", func(t *testing.T) {
		for range 3 {
			if d := cmp.Diff(about(person, 1), attributes()); d != "" {
				t.Errorf("mismatch (-want +got):\n%s", d)
			}
		}
		other, err := i.Refresh(g.RefreshToken)
		if err != nil {
			t.Fatal(err)
		}
		g = other
		if d := cmp.Diff(about(person, 1), attributes()); d != "" {
			t.Errorf("with the session's next token (-want +got):\n%s", d)
		}
	})
	t.Run("attributes are read again when ver has risen", func(t *testing.T) {
		person = i.bind(t, &g)
		if d := cmp.Diff(about(person, 2), attributes()); d != "" {
			t.Errorf("mismatch (-want +got):\n%s", d)
		}
	})
	t.Run("only attributes in the current policy are shown", func(t *testing.T) {
		i.exposes = []string{"other"}
		if d := cmp.Diff(map[string]any{}, attributes()); d != "" {
			t.Errorf("mismatch (-want +got):\n%s", d)
		}
		i.exposes = nil
		if got := attributes(); got != nil {
			t.Errorf("attributes = %v, want no such member", got)
		}
		i.exposes = []string{"about"}
	})
	t.Run("the attributes are an empty object when the person has no such attribute", func(t *testing.T) {
		i := newInspector(t, "none")
		key, g := i.key(t, "service"), i.Login("alice")
		i.bind(t, &g)
		if d := cmp.Diff(map[string]any{}, i.introspect(t, key, g.AccessToken.Reveal()).members(t)["attributes"]); d != "" {
			t.Errorf("mismatch (-want +got):\n%s", d)
		}
	})
}

// The guide tells back ends: a required member that is missing could not be read.
func TestIntrospectionWithoutDatabase(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(d *database){
		"that fails":                      func(d *database) { d.fails.Store(true) },
		"that hangs":                      func(d *database) { d.hangs.Store(true) },
		"that is known to be unavailable": func(d *database) { d.away.Store(true) },
		"that is known to be unavailable and hangs": func(d *database) { d.away.Store(true); d.hangs.Store(true) },
	} {
		t.Run("a database "+name+" causes only the unknown members to be left out", func(t *testing.T) {
			t.Parallel()
			i := newInspector(t, "about")
			plain, open := i.key(t, "service"), i.key(t, "service openid")
			seen, unseen, ended := i.Login("alice"), i.Login("bob"), i.Login("carol")
			seenPerson, unseenPerson := i.bind(t, &seen), i.bind(t, &unseen)
			before := i.introspect(t, open, seen.AccessToken.Reveal()).members(t)
			if before["openid"] == nil || before["attributes"] == nil {
				t.Fatalf("answer = %v", before)
			}
			i.introspect(t, open, ended.AccessToken.Reveal())
			asked := i.asked.Load()
			fail(i.database)

			if d := cmp.Diff(before, i.introspect(t, open, seen.AccessToken.Reveal()).members(t)); d != "" {
				t.Errorf("answer for a cached session (-want +got):\n%s", d)
			}
			if before["person"] != seenPerson.String() {
				t.Errorf("person = %v, want %s", before["person"], seenPerson)
			}
			for name, key := range map[string]servicekey.Presented{"service": plain, "service openid": open} {
				a := i.introspect(t, key, unseen.AccessToken.Reveal())
				m := a.members(t)
				if a.Status != http.StatusOK || m["active"] != true || m["bound"] != true || m["person"] != unseenPerson.String() {
					t.Errorf("with a key of scope %s: POST /oauth2/introspect: status and body = %d %s, want 200 and active", name, a.Status, a.Body)
				}
				for _, member := range []string{"openid", "unionid", "attributes"} {
					if v, there := m[member]; there {
						t.Errorf("with a key of scope %s: %s = %v, want no such member", name, member, v)
					}
				}
			}
			if strings.Contains(name, "known") && i.asked.Load() != asked {
				t.Errorf("a database that is known to be unavailable was asked %d times, want 0", i.asked.Load()-asked)
			}
			if !strings.Contains(i.log.String(), `"left_out":["openid","unionid","attributes"]`) {
				t.Error("the log does not say what was left out")
			}
			// The cache does not keep an ended session active.
			i.revoke(t, ended.RefreshToken.Reveal())
			wantInactive(t, i.introspect(t, open, ended.AccessToken.Reveal()))

			i.away.Store(false)
			i.fails.Store(false)
			i.hangs.Store(false)
			if m := i.introspect(t, open, unseen.AccessToken.Reveal()).members(t); m["openid"] == nil || m["attributes"] == nil {
				t.Errorf("after the database is back the answer is %v", m)
			}
		})
	}
}
