package session_test

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

// The retirement of a compromised signing key revokes its tokens and ends no session.
func TestSigningKeyRetired(t *testing.T) {
	t.Parallel()
	// Each retires the key of the session's access token, which is the current one or
	// a previous one.
	for name, retire := range map[string]func(t *testing.T, w *world) error{
		"the current key": func(t *testing.T, w *world) error {
			return w.retire(t, w.current(t, keyring.UseAccess))
		},
		"a previous key": func(t *testing.T, w *world) error {
			was := w.current(t, keyring.UseAccess)
			w.Clock.Advance(6 * time.Minute)
			must(w.keeper.Rotate(t.Context(), keyring.RotateRequest{}))(t)
			return w.retire(t, was)
		},
	} {
		t.Run(name+": its access token is refused, and the session continues with another key", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, session.Lifetimes{})
			g := w.Login("alice")
			if err := retire(t, w); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Service.Authenticate(t.Context(), g.AccessToken); auth.CodeOf(err) != auth.TokenInvalid && auth.CodeOf(err) != auth.SessionRevoked {
				t.Errorf("Authenticate() error = %v", err)
			}
			if n := w.count(t, `select count(*) from cutoffs where kind = 'key' and expires_at is null`); n != 1 {
				t.Errorf("%d cutoffs of keys, want 1", n)
			}
			if n := w.count(t, `select count(*) from cutoffs where kind <> 'key'`); n != 0 {
				t.Errorf("%d cutoffs of sessions, want 0", n)
			}
			again, err := w.Refresh(g.RefreshToken)
			if err != nil {
				t.Fatal(err)
			}
			if s, err := w.Service.Authenticate(t.Context(), again.AccessToken); err != nil || s.ID != g.Session.ID {
				t.Errorf("Authenticate() with the new token = session %v, %v", s.ID, err)
			}
			w.Login("bob")
		})
		t.Run(name+": the retirement fails without its cutoff", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, session.Lifetimes{})
			g := w.Login("alice")
			w.breakCutoffs(t)
			if err := retire(t, w); err == nil {
				t.Error("the key was retired without its cutoff")
			}
			if _, err := w.Service.Authenticate(t.Context(), g.AccessToken); err != nil {
				t.Errorf("Authenticate() after the failed retirement: error = %v", err)
			}
			if n := w.count(t, `select count(*) from audit where action = ?`, string(auth.AuditKeyRetired)); n != 0 {
				t.Errorf("%d audit events of the failed retirement, want 0", n)
			}
		})
	}
}

// A refresh token of a retired MAC key is refused before the database is asked.
func TestRetiredMACKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, session.Lifetimes{})
	g := w.Login("alice")
	if err := w.retire(t, w.current(t, keyring.UseRefresh)); err != nil {
		t.Fatal(err)
	}
	w.store.calls.Store(0)
	if _, err := w.Refresh(g.RefreshToken); auth.CodeOf(err) != auth.RefreshInvalid {
		t.Errorf("Refresh() error = %v, want %v", err, auth.RefreshInvalid)
	}
	if n := w.store.calls.Load(); n != 0 {
		t.Errorf("%d calls of the store, want 0", n)
	}
	// A new log-in gets a token of another key.
	if _, err := w.Refresh(w.Login("alice").RefreshToken); err != nil {
		t.Errorf("after a new log-in: error = %v", err)
	}
}

// Rotation ends nothing: tokens of the previous keys stay valid until they expire.
func TestRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, session.Lifetimes{})
	g := w.Login("alice")
	w.Clock.Advance(6 * time.Minute)
	must(w.keeper.Rotate(t.Context(), keyring.RotateRequest{}))(t)
	if _, err := w.Service.Authenticate(t.Context(), g.AccessToken); err != nil {
		t.Errorf("the access token: error = %v", err)
	}
	again, err := w.Refresh(g.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	// The same refresh again yields the same successor, although another key signs it
	// now.
	w.Clock.Advance(30 * time.Second)
	must(w.keeper.Rotate(t.Context(), keyring.RotateRequest{Now: true}))(t)
	replayed, err := w.Refresh(g.RefreshToken)
	if err != nil || replayed.Verdict != session.Replay || replayed.Session.Generation != again.Session.Generation {
		t.Errorf("Refresh() again = %v, %v, want a replay", replayed.Verdict, err)
	}
	for i, token := range []auth.Secret{again.RefreshToken, replayed.RefreshToken} {
		if _, err := w.Refresh(token); err != nil {
			t.Errorf("Refresh() with successor %d: error = %v", i, err)
		}
	}
}

func TestSigningAlg(t *testing.T) {
	t.Parallel()
	for _, alg := range []string{"EdDSA", "RS256"} {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, session.Lifetimes{})
			must(w.keeper.EnsureKeys(t.Context(), alg, auth.AuditEvent{Actor: auth.ActorCLI}))(t)
			_, err := w.Store.UpdateApp(t.Context(), sessiontest.AppID, app.Change{SigningAlg: alg}, w.Event(auth.AuditAppUpdated))
			if err != nil {
				t.Fatal(err)
			}
			header := func(g session.Grant) string { return string(decodeSegment(t, g.AccessToken, 0)) }
			early := w.Login("alice")
			if h := header(early); !strings.Contains(h, `"ES256"`) {
				t.Errorf("header before validators know the key = %s, want ES256", h)
			}
			w.Clock.Advance(6 * time.Minute)
			for what, g := range map[string]session.Grant{"log-in": w.Login("bob"), "refresh": must(w.Refresh(early.RefreshToken))(t)} {
				if h := header(g); !strings.Contains(h, `"`+alg+`"`) {
					t.Errorf("%s: header = %s, want %s", what, h, alg)
				}
				if _, err := w.Service.Authenticate(t.Context(), g.AccessToken); err != nil {
					t.Errorf("%s: error = %v", what, err)
				}
			}
		})
	}
}

// decodeSegment returns a part of a JWT.
func decodeSegment(t *testing.T, token auth.Secret, i int) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(token.Reveal(), ".")[i])
	if err != nil {
		t.Fatal(err)
	}
	return b
}
