package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/pkg/adminclient"
)

const (
	devApp = "wxdevelopment0001"
	// devSecret is the AppSecret that yufu dev gives to its simulator.
	devSecret = "simulated-app-secret"
)

func devSettings(dir string) settings {
	return settings{
		"YUFU_DATA_DIR":     dir,
		"YUFU_LISTEN":       "127.0.0.1:0",
		"YUFU_ADMIN_LISTEN": "127.0.0.1:0",
		"YUFU_SIM_LISTEN":   "127.0.0.1:0",
		"YUFU_LOG_FORMAT":   "json",
	}
}

// dev starts yufu dev on a data folder.
func (h *harness) dev(name, dir string) (*process, *service) {
	h.t.Helper()
	h.secret("an AppSecret", devSecret)
	p := h.start(name, devSettings(dir), "dev")
	s := &service{harness: h, base: p.base("public"), admin: p.base("admin"), app: devApp}
	s.sim = &simulator{h: h, base: p.base("wechatsim")}
	if key, err := os.ReadFile(filepath.Join(dir, "master.key")); err != nil {
		h.t.Error(err)
	} else {
		h.secret("the master key", strings.TrimSpace(string(key)))
	}
	if key, err := os.ReadFile(filepath.Join(dir, "admin.key")); err != nil {
		h.t.Error(err)
	} else {
		s.adminKey = h.secret("the admin key", strings.TrimSpace(string(key)))
	}
	return p, s
}

// greeting returns all that yufu dev prints.
func greeting(p *process) string {
	p.h.t.Helper()
	return p.await(p.stdout, "how to end it", func(text string) bool { return strings.Contains(text, "Ctrl-C ends it.") })
}

// tourOf returns the commands that yufu dev printed.
func tourOf(t *testing.T, p *process) string {
	t.Helper()
	text := greeting(p)
	_, tour, found := strings.Cut(text, "into another terminal:\n")
	tour, _, _ = strings.Cut(tour, "\nCtrl-C ends it.")
	if !found {
		t.Fatalf("the output has no tour: %q", text)
	}
	return tour
}

// paste runs commands in a shell, and returns the output of each step.
func paste(t *testing.T, commands string) [][]string {
	t.Helper()
	cmd := exec.Command("sh")
	cmd.Stdin = strings.NewReader(commands)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("sh: %v\n%s", err, out)
	}
	var steps [][]string
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "-- "):
			steps = append(steps, nil)
		case len(steps) == 0:
			t.Fatalf("output before the first step: %s", line)
		case line != "":
			steps[len(steps)-1] = append(steps[len(steps)-1], line)
		}
	}
	return steps
}

// checkTour checks the output of the tour's steps, and returns the user's uuid.
func checkTour(t *testing.T, h *harness, steps [][]string) string {
	t.Helper()
	var lines []int
	for _, s := range steps {
		lines = append(lines, len(s))
	}
	if !slices.Equal(lines, []int{1, 1, 2, 2, 2, 2, 2}) {
		t.Fatalf("the steps print %v lines, want 1, 1, 2, 2, 2, 2 and 2:\n%q", lines, steps)
	}
	read := func(line string) *answer {
		t.Helper()
		a := &answer{Body: line}
		if err := json.Unmarshal([]byte(line), &a.Doc); err != nil {
			t.Fatalf("%q is not JSON: %v", line, err)
		}
		h.secret("an access token", a.Doc.AccessToken)
		h.secret("a refresh token", a.Doc.RefreshToken)
		return a
	}
	tokens, me := read(steps[0][0]), read(steps[1][0])
	if tokens.Doc.AccessToken == "" || !strings.HasPrefix(tokens.Doc.RefreshToken, "yfr_") || tokens.Doc.UUID == "" {
		t.Errorf("the login prints %s", tokens.Body)
	}
	if me.Doc.UUID != tokens.Doc.UUID || me.Doc.Session.ID == "" {
		t.Errorf("/v1/me prints %s, the login has the uuid %s", me.Body, tokens.Doc.UUID)
	}
	first, again := h.secret("a refresh token", steps[2][0]), steps[2][1]
	if !strings.HasPrefix(first, "yfr_") || first != again {
		t.Errorf("the two refreshes print %s and %s, want the same refresh token", first, again)
	}
	if out := read(steps[3][0]); out.code() != "" {
		t.Errorf("the logout prints %s", out.Body)
	}
	if after := read(steps[3][1]); after.code() != "session_revoked" {
		t.Errorf("after the logout /v1/me prints %s", after.Body)
	}
	if out := read(steps[4][0]); out.code() != "" || !strings.Contains(out.Body, `"sessions_revoked":1`) {
		t.Errorf("the revocation prints %s", out.Body)
	}
	if after := read(steps[4][1]); after.code() != "session_revoked" {
		t.Errorf("after the revocation /v1/me prints %s", after.Body)
	}
	bound, refreshed := read(steps[5][0]), read(steps[5][1])
	// The binding answers with a token only when it changes something: the first time.
	for _, a := range []*answer{bound, refreshed} {
		if !strings.Contains(a.Body, `"bound":true`) || !strings.Contains(a.Body, `"name":"李雷"`) || a == refreshed && a.Doc.AccessToken == "" {
			t.Errorf("the binding prints %s", a.Body)
		}
	}
	if refreshed.Doc.UUID != tokens.Doc.UUID {
		t.Errorf("the uuid after the binding is %s, want %s", refreshed.Doc.UUID, tokens.Doc.UUID)
	}
	byPhone, unbound := read(steps[6][0]), read(steps[6][1])
	if !strings.Contains(byPhone.Body, `"name":"韩梅梅"`) || !strings.Contains(unbound.Body, `"bound":false`) {
		t.Errorf("the binding by phone prints %s, and the unbinding %s", byPhone.Body, unbound.Body)
	}
	return tokens.Doc.UUID
}

func TestDev(t *testing.T) {
	t.Parallel()

	t.Run("the printed tour works twice when pasted, and its data survives a restart", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		dir := filepath.Join(t.TempDir(), "not there yet", "data")
		p, s := h.dev("first start", dir)
		tour := tourOf(t, p)
		user := checkTour(t, h, paste(t, tour))
		if again := checkTour(t, h, paste(t, tour)); again != user {
			t.Errorf("alice's uuid is %s in the first tour and %s in the second", user, again)
		}
		before := s.logIn("alice")
		p.stop()

		_, s = h.dev("second start", dir)
		after := s.refresh(before.Doc.RefreshToken).want(s, 200, "")
		if after.Doc.UUID != user {
			t.Errorf("alice's uuid was %s and is %s", user, after.Doc.UUID)
		}
		s.me(after.Doc.AccessToken).want(s, 200, "")
	})

	t.Run("pages of other sites get no answer on any port", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		p, s := h.dev("yufu dev", filepath.Join(t.TempDir(), "data"))
		for _, base := range []string{s.base, s.admin, p.base("wechatsim")} {
			wantOwnSiteOnly(t, base)
		}
	})

	t.Run("the data folder is readable only by its owner", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		dir := filepath.Join(t.TempDir(), "data")
		p, _ := h.dev("yufu dev", dir)
		if text := greeting(p); !strings.Contains(text, dir) {
			t.Errorf("the output does not name the data folder: %s", text)
		}
		for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "master.key"): 0o600, filepath.Join(dir, "admin.key"): 0o600, filepath.Join(dir, "yufu.db"): 0o600} {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Mode().Perm(); got != want {
				t.Errorf("%s has mode %04o, want %04o", path, got, want)
			}
		}
	})

	t.Run("the admin key is kept, and replaced when the database does not accept it", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		dir := filepath.Join(t.TempDir(), "it's here")
		path := filepath.Join(dir, "admin.key")
		read := func() string {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			return strings.TrimSpace(string(b))
		}
		works := func(s *service, key string, want int) {
			t.Helper()
			_, err := s.client(key).ListServiceKeys(t.Context(), adminclient.Page{})
			if got := statusOf(err); got != want {
				t.Errorf("a request with the key gets %d, error %v, want %d", got, err, want)
			}
		}
		p, s := h.dev("first start", dir)
		first := read()
		works(s, first, 200)
		p.stop()
		p, s = h.dev("second start", dir)
		if read() != first {
			t.Error("the second start has another key")
		}
		works(s, first, 200)
		p.stop()
		h.mustRun(settings{"YUFU_DATABASE_URL": "sqlite:" + filepath.Join(dir, "yufu.db")}, "", "service-key", "revoke", first[4:20])
		p, s = h.dev("third start", dir)
		third := read()
		if third == first {
			t.Error("the revoked key is not replaced")
		}
		works(s, first, 401)
		works(s, third, 200)
		p.stop()
		if err := os.WriteFile(path, []byte("garbage\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, s = h.dev("fourth start", dir)
		works(s, read(), 200)
	})

	t.Run("the error for a port in use says what to do", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		_, s := h.dev("first", t.TempDir())
		taken := strings.TrimPrefix(s.base, "http://")
		r := h.run(devSettings(t.TempDir()).with(settings{"YUFU_LISTEN": taken}), "", "dev")
		if r.code != 1 || !strings.Contains(r.stderr, "YUFU_LISTEN names an address that is in use, perhaps by another yufu: "+taken) {
			t.Errorf("exit code %d: %s", r.code, r.stderr)
		}
		if r.stdout != "" {
			t.Errorf("yufu dev prints a tour that does not work: %s", r.stdout)
		}
	})

	t.Run("with a real app it prints how to use it, and starts no simulator", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		secret := h.appSecret()
		p := h.start("yufu dev", devSettings(t.TempDir()), "dev", "--app", "wx00000000000000aa", "--secret-file", h.file("secret", secret))
		p.base("admin") // the last listener to start
		if out := greeting(p); !strings.Contains(out, "wx00000000000000aa") || strings.Contains(out, "curl") {
			t.Errorf("yufu dev prints %s", out)
		}
		for _, l := range p.log() {
			if l.Listener == "wechatsim" {
				t.Error("yufu dev starts the simulator")
			}
		}
	})
}

// wantOwnSiteOnly fails the test unless a development program answers only to the names
// of this machine, and refuses requests from pages of other sites.
func wantOwnSiteOnly(t *testing.T, base string) {
	t.Helper()
	ask := func(method, host, origin string) int {
		req, err := http.NewRequestWithContext(t.Context(), method, base+"/sim/codes", strings.NewReader(`{"user":"alice"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		req.Header.Set("Content-Type", "application/json")
		if origin != "" {
			req.Header.Set("Origin", origin)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got := resp.Header.Get("X-Content-Type-Options"); got != "nosniff" {
			t.Errorf("%s: X-Content-Type-Options = %q, want nosniff", base, got)
		}
		return resp.StatusCode
	}
	if got := ask(http.MethodGet, "evil.example.com", ""); got != http.StatusMisdirectedRequest {
		t.Errorf("%s with another host: status = %d, want 421", base, got)
	}
	if got := ask(http.MethodPost, "", "https://evil.example.com"); got != http.StatusForbidden {
		t.Errorf("%s from a page of another site: status = %d, want 403", base, got)
	}
	if got := ask(http.MethodPost, "", ""); got == http.StatusForbidden || got == http.StatusMisdirectedRequest {
		t.Errorf("%s from a program: status = %d", base, got)
	}
}
