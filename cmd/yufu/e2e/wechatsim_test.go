package e2e

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
)

func TestWechatsim(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	secret := h.appSecret()
	env := settings{"YUFU_SIM_LISTEN": "127.0.0.1:0", "YUFU_LOG_FORMAT": "json"}
	p := h.start("yufu wechatsim", env, "wechatsim", "--app", testApp+":"+secret)
	sim := &simulator{h: h, base: p.base("wechatsim")}

	redeem := func(t *testing.T, app, secret string) (errcode int) {
		t.Helper()
		query := url.Values{"appid": {app}, "secret": {secret}, "js_code": {sim.mustCode("alice")}, "grant_type": {"authorization_code"}}
		a := h.must(h.get(sim.base+"/sns/jscode2session?"+query.Encode(), ""))
		var doc struct {
			Errcode    int    `json:"errcode"`
			OpenID     string `json:"openid"`
			SessionKey string `json:"session_key"`
		}
		if err := json.Unmarshal([]byte(a.Body), &doc); err != nil {
			t.Fatal(err)
		}
		h.secret("a session_key", doc.SessionKey)
		if doc.Errcode == 0 && doc.OpenID == "" {
			t.Errorf("the answer has neither an errcode nor an openid: %s", a.Body)
		}
		return doc.Errcode
	}

	t.Run("the output names its address", func(t *testing.T) {
		p.await(p.stdout, "its address", func(text string) bool { return strings.Contains(text, sim.base) })
	})

	t.Run("only the configured apps with their secrets are accepted", func(t *testing.T) {
		for _, c := range []struct {
			app, secret string
			want        int
		}{
			{testApp, secret, 0},
			{testApp, "another", 40125},
			{"wx404", secret, 40013},
		} {
			if got := redeem(t, c.app, c.secret); got != c.want {
				t.Errorf("app %s: errcode %d, want %d", c.app, got, c.want)
			}
		}
	})

	t.Run("pages of other sites get no answer", func(t *testing.T) { wantOwnSiteOnly(t, sim.base) })

	t.Run("the program stops gracefully", func(t *testing.T) {
		p.stop()
	})
}
