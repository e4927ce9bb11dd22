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

// minSecret is the minimum length of the secrets of a [finder], in bytes.
const minSecret = 8

// finder finds secrets in text, in every form in which a program could print them by
// mistake: unchanged, percent-encoded, in base64, in hexadecimal, and as fmt prints
// bytes.
type finder struct {
	// needles by their first minSecret bytes, so that one lookup at each position of a
	// text is enough for thousands of needles.
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

// in returns the secrets in the text, each with its surroundings.
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

// forms returns the texts to search for a secret.
func forms(secret string) []string {
	// The secret part of a token is its end: the signature or the MAC.
	if len(secret) > 40 {
		secret = secret[len(secret)-40:]
	}
	all := encodings(secret)
	// Programs keep a key as bytes, base64 is only its form in files.
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
	// Within longer base64, a text has three forms. The characters that it shares with
	// its neighbours are left out.
	for before := range 3 {
		b := base64.RawStdEncoding.EncodeToString([]byte("xx"[:before] + s))
		b = b[(before*8+5)/6 : (before+len(s))*8/6]
		all = append(all, b, strings.NewReplacer("+", "-", "/", "_").Replace(b))
	}
	return all
}

// publicText is a text that must not contain secrets.
type publicText struct{ where, text string }

// public registers a text that the harness searches for secrets.
func (h *harness) public(where, text string) {
	h.mu.Lock()
	h.texts = append(h.texts, publicText{where, text})
	h.mu.Unlock()
}

// publicAnswer registers an answer. Tokens may be in the answers of the token endpoint,
// and a ticket in the answer that mints it; the simulator is not part of the service.
func (h *harness) publicAnswer(where string, a *answer, tokens bool) {
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
	h.public(where, text.String())
}

// findLeaks fails the test if a process printed or answered a secret.
func (h *harness) findLeaks() {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := newFinder(h.secrets)
	for _, o := range h.outputs {
		for line := range strings.Lines(o.String()) {
			for what := range f.in(line) {
				h.t.Errorf("%s contains %s: %s", o.name, what, line)
			}
		}
	}
	for _, s := range h.texts {
		for what, around := range f.in(s.text) {
			h.t.Errorf("%s contains %s: … %q …", s.where, what, around)
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
				t.Errorf("in(%q) = %q, want %q", text, got, want)
			}
		}
	}
	if got := f.in("hunter2/hunter3 is no secret, nor is " + key[:20]); len(got) != 0 {
		t.Errorf("in() finds %q in a text without secrets", got)
	}
}
