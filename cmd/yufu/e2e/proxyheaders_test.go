package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// identityNames are the headers that tell a back end who makes a request.
var identityNames = []string{"X-Yufu-UUID", "X-Yufu-Session", "X-Yufu-App", "X-Yufu-Person", "X-Yufu-External-Id"}

// spellings are header names that some back ends may take for ours. Together they have
// every byte at every position of a separator.
func spellings() []string {
	var names []string
	for b := range 256 {
		s := string([]byte{byte(b)})
		names = append(names, "X"+s+"Yufu-Person", "X-Yufu"+s+"Person", "X"+s+"Yufu"+s+"Person", "X-Yufu-Person"+s, s+"X-Yufu-Person", "X-Yufu-"+s+"Person", "X-Yufu-External"+s+"Id")
	}
	swap := func(name string) string {
		return strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' {
				return r - 'a' + 'A'
			} else if r >= 'A' && r <= 'Z' {
				return r - 'A' + 'a'
			}
			return r
		}, name)
	}
	for _, name := range identityNames {
		for _, first := range []string{"-", "_", ".", " ", "--", "-_", "._", "\t"} {
			for _, then := range []string{"-", "_", ".", " ", "__", ".-"} {
				parts := strings.SplitN(name, "-", 3)
				spelt := parts[0] + first + parts[1] + then + strings.ReplaceAll(parts[2], "-", then)
				names = append(names, spelt, strings.ToLower(spelt), strings.ToUpper(spelt), swap(spelt))
			}
		}
	}
	// Python's upper turns this letter into SS. A list in PHP. A folded line.
	return append(names, "X-Yufu-Se\xdfion", "X-Yufu-Person[]", "X-Yufu[Person]", "X-Yufu-Person\r\n ", "X-Yufu-\r\n Person", "X-Yufu-Person\r\n\t")
}

// folded returns a header name as the least strict gateways write it.
var unfolded = regexp.MustCompile(`[^A-Za-z0-9]`)

func folded(name string) string {
	return "HTTP_" + strings.ToUpper(unfolded.ReplaceAllString(strings.ReplaceAll(name, "\xdf", "SS"), "_"))
}

// seenByPHP is the answer of clients/headers.php.
type seenByPHP struct {
	Server map[string]any
	Raw    []string
}

// identity returns the entries whose names match: PHP and less strict gateways would take
// them for ours.
func (s seenByPHP) identity(t *testing.T, ours *regexp.Regexp) (php map[string]any, names []string) {
	t.Helper()
	php = map[string]any{}
	for name, value := range s.Server {
		if ours.MatchString(name) {
			php[name] = value
		}
	}
	for _, name := range s.Raw {
		b, err := hex.DecodeString(name)
		if err != nil {
			t.Fatal(err)
		}
		if name := folded(string(b)); ours.MatchString(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return php, names
}

// anyYufu matches each name that contains Yufu.
var anyYufu = regexp.MustCompile("(?i)yufu")

// yufuOf returns the names that a proxy must remove. nginx deletes headers only by their
// whole names.
func yufuOf(proxy string) *regexp.Regexp {
	if proxy != "nginx" {
		return anyYufu
	}
	var names []string
	for _, name := range identityNames {
		names = append(names, folded(name))
	}
	return regexp.MustCompile("^(" + strings.Join(names, "|") + ")$")
}

// php starts a back end in PHP and returns its address.
func (h *harness) php(router string) string {
	h.t.Helper()
	path, libraries := program(h.t, "php")
	script, err := filepath.Abs(router)
	if err != nil {
		h.t.Fatal(err)
	}
	p := h.prepare("php", nil, nil)
	p.cmd.Path, p.cmd.Args = path, []string{path, "-S", "127.0.0.1:0", script}
	p.cmd.Env = append(p.cmd.Env, libraries...)
	h.launch(p)
	started := regexp.MustCompile(`\(http://(127\.0\.0\.1:[0-9]+)\) started`)
	text := p.await(p.stderr, "its address", started.MatchString)
	return started.FindStringSubmatch(text)[1]
}

// TestForgedHeaders checks that no spelling of our names gets from a client to a back
// end in PHP.
func TestForgedHeaders(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w := newGuardedWorld(h)
	backEnd := h.php("clients/headers.php")
	victim := "00000000-0000-7000-8000-000000000000"
	// A forged continuation line belongs to the header before it.
	good := []field{{"authorization", "Bearer " + w.alice.Doc.AccessToken}, {"accept", "*/*"}}
	want := map[string]any{}
	for name, values := range w.headersOf(w.alice, "") {
		want[folded(name)] = values[0]
	}
	wantNames := slices.Sorted(maps.Keys(want))

	t.Run("PHP treats other spellings as ours", func(t *testing.T) {
		for _, name := range []string{"X.Yufu.Person", "x_yufu_person", "X-Yufu.Person"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+backEnd, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header[name] = []string{victim}
			resp, err := plain.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			var seen seenByPHP
			if err := json.NewDecoder(resp.Body).Decode(&seen); err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if seen.Server["HTTP_X_YUFU_PERSON"] != victim {
				t.Errorf("%s: variables = %v, want HTTP_X_YUFU_PERSON = %s", name, seen.Server, victim)
			}
		}
	})
	to := w.sites()
	to.api = backEnd
	proxies := w.proxies(h, to)
	for name, p := range proxies {
		for _, protocol := range p.protocols {
			t.Run(name+" over "+protocol, func(t *testing.T) {
				t.Parallel()
				c := p.raw(t, protocol)
				check := func(fields ...field) (passed bool) {
					t.Helper()
					status, body := c.get(append(good[:2:2], fields...)...)
					if status == 0 || status == http.StatusBadRequest {
						return false // the proxy refuses such a name
					}
					var seen seenByPHP
					if err := json.Unmarshal(body, &seen); status != http.StatusOK || err != nil {
						t.Errorf("%q: status and body = %d %s, want 200", fields, status, body)
						return false
					}
					php, names := seen.identity(t, yufuOf(name))
					if d := cmp.Diff(want, php); d != "" {
						t.Errorf("%q: headers that PHP takes for ours (-want +got):\n%s", fields, d)
					}
					if d := cmp.Diff(wantNames, names); d != "" {
						t.Errorf("%q: headers that a gateway could take for ours (-want +got):\n%s", fields, d)
					}
					return true
				}
				passed := 0
				for _, name := range spellings() {
					if protocol == "h2" {
						name = strings.ToLower(name) // others are refused
					}
					forged := field{name, victim}
					if check(forged) {
						passed++
					}
				}
				// Such names are valid, so the proxy must not refuse them.
				for _, name := range identityNames {
					if !check(field{strings.ToLower(name), victim}, field{strings.ToLower(name), victim}) {
						t.Errorf("a request with %s is refused", name)
					}
				}
				t.Logf("%d of %d spellings passed without their header", passed, len(spellings()))
			})
		}
	}
}

// TestIdentityPassesSecondProxy checks that no client can make a proxy behind ours delete
// the identity: proxies delete the headers named in Connection (RFC 9110 §7.6.1).
func TestIdentityPassesSecondProxy(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	w := newGuardedWorld(h)
	behind, err := url.Parse("http://" + w.backEnd.addr)
	if err != nil {
		t.Fatal(err)
	}
	var connection []string // the Connection header of each request at the second proxy
	forward := httputil.NewSingleHostReverseProxy(behind)
	second := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		connection = r.Header["Connection"]
		forward.ServeHTTP(rw, r)
	}))
	t.Cleanup(second.Close)
	to := w.sites()
	to.api = second.Listener.Addr().String()
	lilei := w.headersOf(w.lilei, w.person)
	var all []string
	for _, name := range identityNames {
		all = append(all, name, strings.ToLower(name), strings.ReplaceAll(name, "-", "_"))
	}
	for name, p := range w.proxies(h, to) {
		t.Run(name, func(t *testing.T) {
			for _, value := range append(all, strings.Join(all, ","), "keep-alive, X-Yufu-UUID", "close ,X-Yufu-Person", "X-Yufu-UUID, Upgrade", "Upgrade\tX-Yufu-UUID") {
				w.wantPassed(t, p.api(t, w.lilei.Doc.AccessToken, "Connection", value), lilei)
				if strings.Contains(strings.ToLower(fmt.Sprint(connection)), "yufu") {
					t.Errorf("Connection %q reaches the back end as %q", value, connection)
				}
				w.wantPassed(t, p.api(t, w.lilei.Doc.AccessToken, "Connection", "keep-alive", "Connection", value, "Connection", "x"), lilei)
				// The Connection header of an upgrade contains Upgrade.
				w.wantPassed(t, p.api(t, w.lilei.Doc.AccessToken, "Connection", "Upgrade, "+value, "Upgrade", "example"), lilei)
			}
		})
	}
}

// TestExternalIDPassesProxies checks that each proxy passes the external id and replaces
// a client's value.
func TestExternalIDPassesProxies(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	backEnd := h.guardedAPI()
	forged := http.Header{"X-Yufu-External-Id": {"victim"}}
	check := func(t *testing.T, p *proxy, token string, want ...string) {
		t.Helper()
		header := forged.Clone()
		header.Set("Authorization", "Bearer "+token)
		a := p.must(t, http.MethodGet, apiHost, "/orders", "", header)
		seen := backEnd.forget()
		if a.status != http.StatusOK || len(seen) != 1 {
			t.Fatalf("the answer is %d %s, and the back end got %d requests, want 1", a.status, a.body, len(seen))
		}
		if d := cmp.Diff(want, seen[0].Header["X-Yufu-External-Id"]); d != "" {
			t.Errorf("headers at the back end (-want +got):\n%s", d)
		}
	}
	const id = "工号 7/8?#%+&=\"\\<~._-*'(Az09"
	const encoded = "%E5%B7%A5%E5%8F%B7%207%2F8%3F%23%25%2B%26%3D%22%5C%3C~._-%2A%27%28Az09"
	v := newVerdicts(t)
	v.status.Store(http.StatusOK)
	to := sites{auth: v.addr, api: backEnd.addr}
	for name, p := range map[string]*proxy{"nginx": h.nginx(to), "Caddy": h.caddy(to)} {
		t.Run(name, func(t *testing.T) {
			v.externalID.Store(ptr(encoded))
			check(t, p, "x", encoded)
			v.externalID.Store(nil)
			check(t, p, "x")
		})
	}
	t.Run("HAProxy", func(t *testing.T) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys := t.TempDir()
		if out, err := reloadKeys(t, pemOf(t, key.Public()), keys, "true", "true"); err != nil || out != "" {
			t.Fatalf("the command failed: %v: %s", err, out)
		}
		p := h.in(t).haproxy(to, keys)
		token := func(claims map[string]any) string {
			claims["iss"], claims["exp"] = "https://"+authHost, time.Now().Add(time.Hour).Unix()
			claims["aud"] = []string{"https://" + authHost, apiAudience}
			payload, err := json.Marshal(claims)
			if err != nil {
				t.Fatal(err)
			}
			encode := base64.RawURLEncoding.EncodeToString
			input := encode([]byte(`{"alg":"ES256","typ":"at+jwt"}`)) + "." + encode(payload)
			digest := sha256.Sum256([]byte(input))
			r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
			if err != nil {
				t.Fatal(err)
			}
			signature := make([]byte, 64)
			r.FillBytes(signature[:32])
			s.FillBytes(signature[32:])
			return input + "." + encode(signature)
		}
		check(t, p, token(map[string]any{"external_id": id}), encoded)
		check(t, p, token(map[string]any{}))
	})
}
