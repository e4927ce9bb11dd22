package oauth_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
)

// reuses returns the details of the audit events for reused codes.
func (l *limited) reuses(t *testing.T) (details []string) {
	t.Helper()
	rows, err := l.db.QueryContext(t.Context(), `
select a.appid || ' ' || (select json_group_object(v.name, v.value) from audit_values v where v.audit_id = a.id)
from audit a where a.action = 'code.reused' order by a.id`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var d string
		if err := rows.Scan(&d); err != nil {
			t.Fatal(err)
		}
		details = append(details, d)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return details
}

func wantReuse(t *testing.T, detail string, parts ...string) {
	t.Helper()
	for _, part := range append(parts, sessiontest.AppID) {
		if !strings.Contains(detail, part) {
			t.Errorf("audit detail %s does not contain %s", detail, part)
		}
	}
}

func TestReusedCodes(t *testing.T) {
	t.Parallel()
	const alice, mallory = "192.0.2.1", "2001:db8:1:2::3"
	wantUsed := func(t *testing.T, a answer) {
		t.Helper()
		wantError(t, a, http.StatusBadRequest, "invalid_grant", "code_used")
	}
	t.Run("a reused code is audited once, with both networks, and the first session goes on", func(t *testing.T) {
		t.Parallel()
		l := newLimited(t, 120, 6000, loopback)
		code := l.Simulator.NewCode("alice")
		first := l.present(t, alice, code)
		wantLoggedIn(t, first)
		for range 3 {
			wantUsed(t, l.present(t, mallory, code))
		}
		found := l.reuses(t)
		if len(found) != 1 {
			t.Fatalf("audited events = %v, want one", found)
		}
		wantReuse(t, found[0], `"first_network":"192.0.2.1/32"`, `"network":"2001:db8:1:2::/64"`)
		if strings.Contains(found[0]+l.log.String(), code) {
			t.Errorf("the audit or the log contains the code: %s %s", found[0], l.log)
		}
		a := l.do(t, http.MethodPost, "/oauth2/token",
			form("grant_type", "refresh_token", "client_id", sessiontest.AppID, "refresh_token", first.text(t, "refresh_token")), from(alice))
		wantLoggedIn(t, a)
	})
	t.Run("a code that the platform reports as reused is audited", func(t *testing.T) {
		t.Parallel()
		l := newLimited(t, 120, 6000, loopback)
		code := l.Simulator.NewCode("alice")
		// Another replica used the code first.
		if _, err := l.Service.Exchange(t.Context(), session.ExchangeRequest{ClientID: sessiontest.AppID, Code: auth.Secret(code)}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			wantUsed(t, l.present(t, mallory, code))
		}
		found := l.reuses(t)
		if len(found) != 1 {
			t.Fatalf("audited events = %v, want one", found)
		}
		wantReuse(t, found[0], `"network":"2001:db8:1:2::/64"`)
		if strings.Contains(found[0], "first_network") {
			t.Errorf("audit detail %s has the first network, want no such member", found[0])
		}
	})
	t.Run("unknown codes are not audited", func(t *testing.T) {
		t.Parallel()
		l := newLimited(t, 120, 6000, loopback)
		wantError(t, l.present(t, mallory, "guess"), http.StatusBadRequest, "invalid_grant", "code_invalid")
		wantUsed(t, l.present(t, mallory, "guess"))
		wantError(t, l.present(t, mallory, "not a code"), http.StatusBadRequest, "invalid_grant", "code_invalid")
		wantError(t, l.present(t, mallory, "not a code"), http.StatusBadRequest, "invalid_grant", "code_invalid")
		if found := l.reuses(t); len(found) != 0 {
			t.Errorf("audited events = %v, want no event", found)
		}
	})
	t.Run("the answer is an error when the audit event cannot be written", func(t *testing.T) {
		t.Parallel()
		l := newLimited(t, 120, 6000, loopback)
		code := l.Simulator.NewCode("alice")
		wantLoggedIn(t, l.present(t, alice, code))
		if _, err := l.db.ExecContext(t.Context(), `create trigger broken before insert on audit begin select raise(abort, 'disk I/O error'); end`); err != nil {
			t.Fatal(err)
		}
		if a := l.present(t, mallory, code); a.Status/100 != 5 {
			t.Errorf("POST /oauth2/token: status and body = %d %s, want 5xx", a.Status, a.Body)
		}
	})
}
