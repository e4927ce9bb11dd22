package auth_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/yufu-auth/yufu/pkg/auth"
)

func TestParsePolicy(t *testing.T) {
	t.Parallel()
	t.Run("an encoded policy parses to the same policy", func(t *testing.T) {
		t.Parallel()
		for _, p := range []auth.Policy{{}, {
			Methods: auth.BindingMethods(), Facts: auth.FactsPolicy{Lookup: "employee_no", Check: []string{"name", "id4"}},
			Phone: auth.PhonePolicy{Check: []string{"name"}}, Webhook: auth.WebhookPolicy{URL: "https://hr.example.com/yufu?x=1"},
			SecondIdentity: auth.SecondJoins, SelfUnbind: true, Attributes: []string{"部门"},
		}} {
			b, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			got, err := auth.ParsePolicy(b)
			if err != nil || cmp.Diff(p, got) != "" {
				t.Errorf("ParsePolicy(%s) = %+v, %v, want %+v", b, got, err, p)
			}
		}
	})
	t.Run("an empty policy allows no method", func(t *testing.T) {
		t.Parallel()
		p, err := auth.ParsePolicy([]byte(`{}`))
		if err != nil || p.Second() != auth.SecondRefused || p.SelfUnbind {
			t.Errorf("ParsePolicy({}) = %+v, %v, want the zero policy", p, err)
		}
		for _, m := range auth.BindingMethods() {
			if p.Allows(m) {
				t.Errorf("the empty policy allows %s", m)
			}
		}
	})
	t.Run("a contradictory or misspelt policy is refused with the reason", func(t *testing.T) {
		t.Parallel()
		for text, says := range map[string]string{
			``:                                "JSON object",
			`[]`:                              "JSON object",
			`{} {}`:                           "data after it",
			`{"method":["facts"]}`:            "member",
			`{"self_unbind":"yes"}`:           "self_unbind",
			`{"methods":["sms"]}`:             "methods",
			`{"methods":["ticket","ticket"]}`: "repeated",
			`{"methods":["facts"]}`:           "facts.lookup",
			`{"methods":["facts"],"facts":{"lookup":"no"}}`:                         "facts.check",
			`{"methods":["facts"],"facts":{"lookup":"no","check":["no"]}}`:          "repeated",
			`{"facts":{"lookup":"No","check":["name"]}}`:                            "name of a fact",
			`{"facts":{"lookup":"no","check":["name","name"]}}`:                     "repeated",
			`{"phone":{"check":["name"],"create":true}}`:                            "phone.check",
			`{"methods":["webhook"]}`:                                               "webhook.url",
			`{"webhook":{"url":"http://hr.example.com/"}}`:                          "https",
			`{"webhook":{"url":"https://user:pass@hr.example.com/"}}`:               "https",
			`{"webhook":{"url":"ftp://hr.example.com/"}}`:                           "https",
			`{"second_identity":"replaces"}`:                                        "second_identity",
			`{"attributes":["a","a"]}`:                                              "repeated",
			`{"attributes":[""]}`:                                                   "attribute",
			`{"facts":{"lookup":"no","check":["` + strings.Repeat("a", 33) + `"]}}`: "name of a fact",
			`{"attributes":["` + strings.Repeat("a", 17<<10) + `"]}`:                "16 KiB",
		} {
			p, err := auth.ParsePolicy([]byte(text))
			var e *auth.Error
			if !errors.As(err, &e) || e.Code != auth.InvalidRequest || !strings.Contains(e.Description, says) {
				t.Errorf("ParsePolicy(%.80s) = %+v, %v, want an error with %q", text, p, err, says)
			}
		}
	})
	t.Run("http is allowed on loopback", func(t *testing.T) {
		t.Parallel()
		for _, host := range []string{"127.0.0.1:8082", "localhost", "[::1]:1"} {
			if _, err := auth.ParsePolicy([]byte(`{"webhook":{"url":"http://` + host + `/x"}}`)); err != nil {
				t.Errorf("ParsePolicy() with a webhook at %s: error = %v", host, err)
			}
		}
	})
}

func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte(`{"methods":["facts"],"facts":{"lookup":"no","check":["name"]},"phone":{"create":true},"second_identity":"join"}`))
	f.Add([]byte(`{"webhook":{"url":"https://a.example"},"attributes":["x"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := auth.ParsePolicy(b)
		if err != nil {
			if !errors.Is(err, auth.InvalidRequest) {
				t.Errorf("ParsePolicy() error = %v, want %v", err, auth.InvalidRequest)
			}
			return
		}
		again, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if q, err := auth.ParsePolicy(again); err != nil || cmp.Diff(p, q) != "" {
			t.Errorf("ParsePolicy(%s) error = %v, want the same policy", again, err)
		}
	})
}
