package e2e

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// minSecret is how long what a [finder] looks for must be, in bytes.
const minSecret = 8

// finder finds secrets in text, in every form in which a program could print
// them by mistake: as they are, percent-encoded, in base64, in hexadecimal, as
// fmt prints bytes.
type finder struct {
	// needles by their first minSecret bytes, so that one look at each place of
	// a text is enough for thousands of them.
	needles map[string][]needle
}

type needle struct{ text, what string }

func newFinder(secrets map[string]string) *finder {
	f := &finder{map[string][]needle{}}
	for secret, what := range secrets {
		for _, text := range forms(secret) {
			if len(text) >= minSecret {
				start := text[:minSecret]
				f.needles[start] = append(f.needles[start], needle{text, what})
			}
		}
	}
	return f
}

// in returns what the text holds, each with its surroundings.
func (f *finder) in(text string) map[string]string {
	found := map[string]string{}
	for i := 0; i+minSecret <= len(text); i++ {
		for _, n := range f.needles[text[i:i+minSecret]] {
			if found[n.what] == "" && strings.HasPrefix(text[i:], n.text) {
				found[n.what] = text[max(0, i-200):min(len(text), i+200)]
			}
		}
	}
	return found
}

// forms returns what to look for instead of a secret.
func forms(secret string) []string {
	// The end of a token is what makes it one: its signature or its MAC.
	if len(secret) > 40 {
		secret = secret[len(secret)-40:]
	}
	all := encodings(secret)
	// A key is mostly kept as bytes, and only written as base64.
	if raw, err := base64.StdEncoding.DecodeString(secret); err == nil {
		all = append(all, encodings(string(raw))...)
	}
	return all
}

func encodings(s string) []string {
	all := []string{
		s, url.QueryEscape(s), url.PathEscape(s),
		hex.EncodeToString([]byte(s)), strings.ToUpper(hex.EncodeToString([]byte(s))),
		strings.Trim(fmt.Sprint([]byte(s)), "[]"),
	}
	// In the middle of base64, a text looks in three ways; what it shares
	// characters with at its ends is not looked for.
	for before := range 3 {
		b := base64.RawStdEncoding.EncodeToString([]byte("xx"[:before] + s))
		b = b[(before*8+5)/6 : (before+len(s))*8/6]
		all = append(all, b, strings.NewReplacer("+", "-", "/", "_").Replace(b))
	}
	return all
}

// said is something that everybody may read, and that holds no secret.
type said struct{ where, text string }

// said notes a text in which the harness is to look for secrets.
func (h *harness) said(where, text string) {
	h.mu.Lock()
	h.texts = append(h.texts, said{where, text})
	h.mu.Unlock()
}

// saidAnswer notes an answer. Tokens have their place in the answers of the
// token endpoint, a ticket in the answer that mints it, and the simulator is
// not part of the service.
func (h *harness) saidAnswer(where string, a *answer, tokens bool) {
	if a.Header.Get("X-Yufu-Simulator") != "" {
		return
	}
	var text strings.Builder
	fmt.Fprintln(&text, a.Status)
	_ = a.Header.Write(&text)
	body := a.Body
	if tokens && a.Status == http.StatusOK {
		body = strings.ReplaceAll(body, `"access_token":"`+a.Doc.AccessToken+`"`, "")
		body = strings.ReplaceAll(body, `"refresh_token":"`+a.Doc.RefreshToken+`"`, "")
	}
	if strings.HasSuffix(where, "/bind-tickets") && a.Status == http.StatusCreated {
		body = strings.ReplaceAll(body, `"ticket":"`+a.Doc.Ticket+`"`, "")
	}
	text.WriteString(body)
	h.said(where, text.String())
}

// findLeaks fails the test if a process printed or answered a secret.
func (h *harness) findLeaks() {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := newFinder(h.secrets)
	for _, o := range h.outputs {
		for line := range strings.Lines(o.String()) {
			for what := range f.in(line) {
				h.t.Errorf("%s holds %s: %s", o.name, what, line)
			}
		}
	}
	for _, s := range h.texts {
		for what, around := range f.in(s.text) {
			h.t.Errorf("%s holds %s: … %q …", s.where, what, around)
		}
	}
}

func TestFinder(t *testing.T) {
	t.Parallel()
	const key = "3q2+7wABAgMEBQYHCAkKCw8/AABBQkNERUZHSElKS0w=" // of 32 bytes
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	f := newFinder(map[string]string{key: "the key", "hunter2/hunter2": "the password"})
	for want, texts := range map[string][]string{
		"the key": {
			key, "x=" + key + ";", url.QueryEscape(key), string(raw), hex.EncodeToString(raw), fmt.Sprint(raw), fmt.Sprintf("%X", raw),
			base64.RawURLEncoding.EncodeToString(raw), base64.StdEncoding.EncodeToString([]byte("1" + key)),
		},
		"the password": {
			"hunter2/hunter2", "a hunter2%2Fhunter2 b", hex.EncodeToString([]byte("hunter2/hunter2")),
			base64.StdEncoding.EncodeToString([]byte("id:hunter2/hunter2:x")), base64.URLEncoding.EncodeToString([]byte("12hunter2/hunter2")),
			base64.StdEncoding.EncodeToString([]byte("hunter2/hunter2")),
		},
	} {
		for _, text := range texts {
			if got := f.in(text); len(got) != 1 || got[want] == "" {
				t.Errorf("in %q it finds %q, want %q", text, got, want)
			}
		}
	}
	if got := f.in("hunter2/hunter3 is no secret, nor is " + key[:20]); len(got) != 0 {
		t.Errorf("it finds %q where there is nothing", got)
	}
}
