package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/bearer/bearertest"
	"github.com/yufu-auth/yufu/pkg/netreason/netreasontest"
)

// recipe returns the only code block in a programming language on a page of the guide.
// Both translations must have the same code.
func recipe(t *testing.T, page, language string) string {
	t.Helper()
	var first string
	for _, translation := range []string{"en", "zh"} {
		b, err := os.ReadFile(filepath.Join("../../../deploy/guide", translation, page))
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(string(b), -1)
		if len(found) != 1 {
			t.Fatalf("%s/%s has %d pieces of %s", translation, page, len(found), language)
		}
		if first == "" {
			first = found[0][1]
		} else if found[0][1] != first {
			t.Errorf("the translations have different %s code", language)
		}
	}
	return first
}

// pythonWithJWT returns a Python with the packages of the recipe.
func pythonWithJWT(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if exec.CommandContext(t.Context(), name, "-c", "import jwt, cryptography").Run() == nil {
			path, err := exec.LookPath(name)
			if err != nil {
				t.Fatal(err)
			}
			return path
		}
	}
	t.Fatal("there is no Python with PyJWT and cryptography; to install it: sudo make deps")
	return ""
}

// TestRecipes runs the unchanged back ends of the guide.
func TestRecipes(t *testing.T) {
	t.Parallel()
	const page = "validators.md"
	h := newHarness(t)
	s, f, d := deployBehindFront(h)
	d.mustRun(d.env, "", "app", "update", testApp, "--audience", apiAudience)
	d.mustRun(d.env, d.appSecret(), "app", "add", otherApp, "--secret-file", "-", "--audience", "https://other.example.com")
	other := *s
	other.app = otherApp
	key := d.serviceKey("service")

	for name, language := range map[string]struct {
		// command returns the program with its arguments, and its environment.
		command func(t *testing.T, dir string) (args, env []string)
		// output returns the output with the program's address.
		output func(p *process) *output
		// iat: whether the program refuses a token from the far future.
		iat bool
	}{
		"Node": {
			command: func(t *testing.T, dir string) (args, env []string) {
				t.Helper()
				node, err := exec.LookPath("node")
				if err != nil {
					t.Fatal("Node.js is missing; to install it: sudo make deps")
				}
				modules, err := filepath.Abs("node_modules")
				if err == nil {
					err = os.Symlink(modules, filepath.Join(dir, "node_modules"))
				}
				if err != nil {
					t.Fatal(err)
				}
				return []string{node, write(t, filepath.Join(dir, "server.mjs"), recipe(t, page, "js"))}, nil
			},
			output: func(p *process) *output { return p.stdout },
		},
		"Python": {
			command: func(t *testing.T, dir string) (args, env []string) {
				t.Helper()
				return []string{pythonWithJWT(t), write(t, filepath.Join(dir, "server.py"), recipe(t, page, "python"))}, nil
			},
			output: func(p *process) *output { return p.stdout },
			iat:    true,
		},
		"PHP": {
			command: func(t *testing.T, dir string) (args, env []string) {
				t.Helper()
				php, libraries := program(t, "php")
				return []string{php, "-S", "127.0.0.1:0", write(t, filepath.Join(dir, "server.php"), recipe(t, page, "php"))},
					append(libraries, "KEYS_FILE="+filepath.Join(dir, "keys.json"))
			},
			output: func(p *process) *output { return p.stderr },
			iat:    true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, other := s.in(t), other.in(t)
			start := func(issuer, authURL string) (base string) {
				args, env := language.command(t, t.TempDir())
				p := s.prepare(name, nil, nil)
				p.cmd.Path, p.cmd.Args = args[0], args
				p.cmd.Env = append(settings{}.environ(), "ISSUER="+issuer, "AUTH_URL="+authURL, "AUDIENCE="+apiAudience, "SERVICE_KEY="+key, "PORT=0")
				p.cmd.Env = append(p.cmd.Env, env...)
				s.launch(p)
				listening := regexp.MustCompile(`(?:listening on |Server \()(http://127\.0\.0\.1:[0-9]+)\)?[^0-9]`)
				text := p.await(language.output(p), "its address", listening.MatchString)
				return listening.FindStringSubmatch(text)[1]
			}
			ask := func(url, authorization string) (status int, user string, header http.Header) {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
				if err != nil {
					t.Fatal(err)
				}
				if authorization != "" {
					req.Header.Set("Authorization", authorization)
				}
				resp, err := plain.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Fatal(err)
				}
				var answer struct{ User string }
				if err := json.Unmarshal(body, &answer); err != nil {
					t.Fatalf("the answer %s is not JSON: %v", body, err)
				}
				return resp.StatusCode, answer.User, resp.Header
			}
			base := start(s.base, f.url)
			// The recipes have a timeout of three seconds, and a machine may stall for longer.
			get := func(url, authorization string) (status int, user string, header http.Header) {
				s.eventually("the back end can verify tokens", func() bool {
					status, user, header = ask(url, authorization)
					return status != http.StatusServiceUnavailable
				})
				return status, user, header
			}
			alice := s.logIn("alice of " + name)
			token := alice.Doc.AccessToken
			both := []string{base + "/orders", base + "/transfers"}
			for _, url := range both {
				if status, user, _ := get(url, "Bearer "+token); status != http.StatusOK || user != alice.Doc.UUID {
					t.Errorf("%s: status and user = %d %q, want 200 and %s", url, status, user, alice.Doc.UUID)
				}
				for _, none := range []string{"", "Basic eDp5", "Bearer", "Bearer "} {
					if status, _, header := get(url, none); status != http.StatusUnauthorized || header.Get("WWW-Authenticate") != "Bearer" {
						t.Errorf("%s with %q: status and headers = %d %v, want 401 and the challenge Bearer", url, none, status, header)
					}
				}
				strange := other.logIn("alice").Doc.AccessToken
				_, rest, _ := strings.Cut(token, ".")
				for what, bad := range map[string]string{
					"junk":                           "x",
					"a refresh token":                alice.Doc.RefreshToken,
					"another audience":               strange,
					"a signature of another token":   token[:strings.LastIndex(token, ".")] + strange[strings.LastIndex(strange, "."):],
					"the algorithm none":             "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0." + rest[:strings.Index(rest, ".")+1],
					"a header that is not an object": "MQ." + rest,
					"an unknown key":                 "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6IngifQ." + rest,
				} {
					status, _, header := get(url, "Bearer "+bad)
					if status != http.StatusUnauthorized || !strings.Contains(header.Get("WWW-Authenticate"), "invalid_token") {
						t.Errorf("%s with %s: status and headers = %d %v, want 401 invalid_token", url, what, status, header)
					}
				}
			}

			// Offline verification does not see the logout, introspection does.
			s.logOut(alice.Doc.RefreshToken)
			if status, _, _ := get(both[1], "Bearer "+token); status != http.StatusUnauthorized {
				t.Errorf("after the logout, the back end with introspection answers %d, want 401", status)
			}
			if status, _, _ := get(both[0], "Bearer "+token); status != http.StatusOK {
				t.Errorf("after the logout, the offline back end answers %d, want 200 as in the guide", status)
			}

			// The clock of the back end is slow: the service, which is ahead, has just
			// issued a token.
			ahead := bearertest.New(t)
			base = start(ahead.URL, ahead.URL)
			issued := func(at time.Duration) string {
				return "Bearer " + ahead.Token(bearer.Claims{Audience: []string{apiAudience}, IssuedAt: time.Now().Add(at)})
			}
			for _, at := range []time.Duration{0, time.Second, 55 * time.Second} {
				if status, _, _ := get(base+"/orders", issued(at)); status != http.StatusOK {
					t.Errorf("with a clock that is %s slow, the back end answers %d to a valid token", at, status)
				}
			}
			late := []time.Duration{-10*time.Minute - time.Second}
			if language.iat {
				late = append(late, 5*time.Minute)
			}
			for _, at := range late {
				if status, _, _ := get(base+"/orders", issued(at)); status != http.StatusUnauthorized {
					t.Errorf("a token that was issued %s in the future gets %d", at, status)
				}
			}

			// A fault of the service is not answered as the client's fault.
			short := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "100")
				_, _ = io.WriteString(w, "{")
			}))
			t.Cleanup(short.Close)
			for what, authURL := range map[string]string{"no server": "http://" + netreasontest.UnusedAddr(t), "a server with truncated answers": short.URL} {
				base := start(s.base, authURL)
				for _, path := range []string{"/orders", "/transfers"} {
					if status, _, header := ask(base+path, "Bearer "+token); status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
						t.Errorf("%s with %s as the service: status and headers = %d %v, want 503 with Retry-After", path, what, status, header)
					}
				}
			}
		})
	}
}
