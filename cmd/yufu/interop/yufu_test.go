package interop

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// audience is the audience of the apps' back end.
const audience = "https://orders.example.com"

// yufu is a running yufu dev: its addresses and its service key.
type yufu struct{ issuer, admin, sim, serviceKey string }

// start builds the program and runs yufu dev until the end of the test, on ports that the
// system chooses.
func start(t *testing.T) *yufu {
	t.Helper()
	program, dir := filepath.Join(t.TempDir(), "yufu"), filepath.Join(t.TempDir(), "data")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", program, "./cmd/yufu")
	build.Dir = filepath.Join("..", "..", "..")
	build.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}

	cmd := exec.CommandContext(t.Context(), program, "dev")
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.TempDir(),
		"YUFU_DATA_DIR=" + dir, "YUFU_LOG_FORMAT=json",
		"YUFU_LISTEN=127.0.0.1:0", "YUFU_ADMIN_LISTEN=127.0.0.1:0", "YUFU_SIM_LISTEN=127.0.0.1:0",
		// A new algorithm signs when all copies of the JWK set have expired.
		"YUFU_JWKS_MAX_AGE=1s",
	}
	stderr, err := cmd.StderrPipe()
	if err := errors.Join(err, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // the end of the context kills it

	var log strings.Builder
	bases := map[string]string{} // listener → base URL
	for lines := bufio.NewScanner(stderr); len(bases) < 3; {
		if !lines.Scan() {
			t.Fatalf("yufu dev ended before it listened:\n%s", &log)
		}
		log.WriteString(lines.Text() + "\n")
		var line struct{ Msg, Listener, Addr string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening" {
			bases[line.Listener] = "http://" + line.Addr
		}
	}
	go func() { _, _ = io.Copy(io.Discard, stderr) }() // ends with the process

	key, err := os.ReadFile(filepath.Join(dir, "admin.key"))
	if err != nil {
		t.Fatal(err)
	}
	return &yufu{bases["public"], bases["admin"], bases["wechatsim"], strings.TrimSpace(string(key))}
}

// post sends a request and decodes the answer, which must have a status of success.
func (y *yufu) post(t *testing.T, address, contentType, body string, answer any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	if strings.HasPrefix(address, y.admin) {
		req.Header.Set("Authorization", "Bearer "+y.serviceKey)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil || resp.StatusCode/100 != 2 {
		t.Fatalf("POST %s: status %d, answer %v, error %v", address, resp.StatusCode, answer, err)
	}
}

// tokens is the answer of the token endpoint.
type tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	UUID    string `json:"uuid"`
}

// logIn logs the user alice in until the tokens are signed with the algorithm: Yufu publishes
// the first keys of an algorithm for eleven seconds before they sign, with this max-age.
func (y *yufu) logIn(t *testing.T, app, alg string) (a tokens) {
	t.Helper()
	poll := time.NewTicker(250 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); <-poll.C {
		var login struct{ Code string }
		y.post(t, y.sim+"/sim/codes", "application/json", `{"user":"alice"}`, &login)
		form := url.Values{"grant_type": {"urn:yufu:grant-type:mini-program-code"}, "client_id": {app}, "code": {login.Code}}
		y.post(t, y.issuer+"/oauth2/token", "application/x-www-form-urlencoded", form.Encode(), &a)
		if header(t, a.Access).Algorithm == alg {
			return a
		}
	}
	t.Fatalf("the tokens of %s are not signed with %s", app, alg)
	return a
}
