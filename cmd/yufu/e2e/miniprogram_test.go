package e2e

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/pkg/adminclient"
)

// miniprogram is the library for mini-programs.
var miniprogram = filepath.Join("..", "..", "..", "pkg", "miniprogram")

// buildMiniprogram builds the library once.
var buildMiniprogram = sync.OnceValue(func() error {
	if _, err := os.Stat(filepath.Join(miniprogram, "node_modules", "esbuild", "package.json")); err != nil {
		return fmt.Errorf("the npm packages of pkg/miniprogram are missing; to install them: sudo make deps")
	}
	cmd := exec.Command("node", filepath.Join("scripts", "build.mjs"))
	cmd.Dir = miniprogram
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("node scripts/build.mjs: %w\n%s", err, out)
	}
	return nil
})

// node runs a script of the library's tests with a task, and decodes its result.
func (h *harness) node(ctx context.Context, script string, task, result any) {
	h.t.Helper()
	if err := buildMiniprogram(); err != nil {
		h.t.Fatal(err)
	}
	input, err := json.Marshal(task)
	if err != nil {
		h.t.Fatal(err)
	}
	var stdout bytes.Buffer
	stderr := h.output(script + " stderr")
	cmd := exec.CommandContext(ctx, "node", filepath.Join("test", script))
	cmd.Dir, cmd.Env = miniprogram, settings{}.environ()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &stdout, stderr
	if err := cmd.Run(); err != nil {
		h.t.Fatalf("%s: error = %v\n%s", script, err, stderr)
	}
	if err := json.Unmarshal(stdout.Bytes(), result); err != nil {
		h.t.Fatalf("the output of %s is not JSON: %q: %v", script, &stdout, err)
	}
}

// soaked is the result of one kind of program in the soak test.
type soaked struct {
	Starts            int      `json:"starts"`
	Requests          int      `json:"requests"`
	Answered          int      `json:"answered"`
	Lost              int      `json:"lost"`
	Unauthorized      int      `json:"unauthorized"`
	SignedOut         int      `json:"signedout"`
	Strange           []string `json:"strange"`
	WXLogins          int      `json:"wx_logins"`
	Exchanges         int      `json:"exchanges"`
	ExchangesActed    int      `json:"exchanges_acted"`
	ExchangesAnswered int      `json:"exchanges_answered"`
	Refreshes         int      `json:"refreshes"`
	RefreshesAnswered int      `json:"refreshes_answered"`
	NetworkRequests   int      `json:"network_requests"`
	AnswersLost       int      `json:"answers_lost"`
}

// TestMiniProgramsOnBadNetwork runs the library on many phones that lose a fifth of all
// answers and are suspended repeatedly, some for longer than the refresh window, with
// access tokens of a few seconds. No user is signed out, no user logs in more often than
// the losses require, and the service detects no theft. Beside them, on the same
// schedule, run programs that log in by a timer. Time runs 150 times as fast as in real
// life; YUFU_TEST_SOAK sets the duration, 25s by default.
func TestMiniProgramsOnBadNetwork(t *testing.T) {
	t.Parallel()
	const (
		clients  = 200
		lifetime = 4 * time.Second // of an access token: 10 min
		speed    = 150
		grace    = 4 * time.Second
		every    = 8 * time.Second // the seed's timer: 20 min
	)
	length := 25 * time.Second
	if s := os.Getenv("YUFU_TEST_SOAK"); s != "" {
		var err error
		if length, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	h := newHarness(t)
	dsn := pgtest.Empty(t)
	d := deploy(h, dsn)
	d.env = d.env.with(settings{
		"YUFU_ACCESS_TOKEN_TTL": lifetime.String(), "YUFU_REFRESH_GRACE": grace.String(),
		"YUFU_EXCHANGE_FAILURE_LIMIT": "0", "YUFU_EXCHANGE_SUCCESS_LIMIT": "0", "YUFU_SESSION_LIMIT": "0",
	})
	_, s := d.serve("yufu", "--migrate")
	d.addApp()
	shop := h.backEnd("orders", s.base, d.serviceKey("service"))

	if err := buildMiniprogram(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), length+4*patience)
	defer cancel()
	var result struct{ Ours, Seed soaked }
	h.node(ctx, "soak.mjs", map[string]any{
		"baseURL": s.base, "clientId": s.app, "sim": d.sim.base, "orders": shop.base,
		"clients": clients, "seconds": length.Seconds(), "grace": grace.Seconds(), "every": every.Seconds(),
	}, &result)
	ours, seed := result.Ours, result.Seed

	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	audited := func(action string) (n int) {
		t.Helper()
		if err := db.QueryRowContext(ctx, `select count(*) from audit where action = $1`, action).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	reuse, late := audited("refresh.reuse"), audited("refresh.replay_late")

	if ours.SignedOut != 0 || len(ours.Strange) != 0 {
		t.Errorf("%d users were signed out, unexpected events: %q", ours.SignedOut, ours.Strange)
	}
	// A fast machine has no 401. On a loaded one a request may take longer than the
	// lifetime of its token, twice in a row, and then the library blames the back end
	// for a while.
	if ours.Unauthorized > ours.Requests/20 {
		t.Errorf("%d of %d requests got 401", ours.Unauthorized, ours.Requests)
	}
	if reuse != 0 {
		t.Errorf("the audit has %d events refresh.reuse, want 0", reuse)
	}
	if minimum := clients + late; ours.ExchangesAnswered != minimum {
		t.Errorf("%d logins, want %d: one for each of %d users and one for each of %d late replays", ours.ExchangesAnswered, minimum, clients, late)
	}
	// The schedule causes what the test needs.
	if late == 0 || ours.Requests < 5*clients || ours.AnswersLost < ours.NetworkRequests/7 || ours.RefreshesAnswered < clients {
		t.Errorf("the schedule caused too little: %d late replays, %+v", late, ours)
	}
	days := length.Seconds() * speed / 86400 * clients
	line := func(name string, p soaked) {
		t.Logf("%-5s %6d requests (%d lost), %5d refreshes, %5d login requests, %5d platform calls; a user and day: %.1f login requests, %.1f platform calls",
			name, p.Requests, p.Lost, p.Refreshes, p.Exchanges, p.ExchangesActed, float64(p.Exchanges)/days, float64(p.ExchangesActed)/days)
	}
	t.Logf("%d users for %s: %d of %d answers lost, %d late replays, %d refresh.reuse, %d signed out, %d requests answered 401, %d login answers lost after the service acted",
		clients, length, ours.AnswersLost, ours.NetworkRequests, late, reuse, ours.SignedOut, ours.Unauthorized, ours.ExchangesActed-ours.ExchangesAnswered)
	line("ours", ours)
	line("seed", seed)
}

// TestDemoMiniProgram runs the demo in Chromium: unbound, ordering, bound, revoked by an
// admin and logged in again without an action of the user, unbound, logged out.
// YUFU_TEST_SCREENSHOTS names a folder for screenshots of the steps.
func TestDemoMiniProgram(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	d := deploy(h, pgtest.Empty(t))
	h.mustRun(d.env, "", "migrate")
	_, s := d.serve("yufu")
	d.addApp()
	h.mustRun(d.env, "", "app", "update", s.app, "--policy-file", h.file("policy.json", `{
		"methods": ["facts", "phone", "ticket"], "facts": {"lookup": "employee_no", "check": ["name"]},
		"phone": {}, "second_identity": "refuse", "self_unbind": true
	}`))
	admin := d.serviceKey("admin")
	person := func(number, name, phone string) string {
		t.Helper()
		resp, err := s.client(admin).CreatePerson(t.Context(), adminclient.NewPerson{
			ExternalID: &number, Name: &name, Phone: &phone, Facts: map[string]string{"employee_no": number, "name": name},
		})
		if err != nil {
			t.Fatalf("CreatePerson() error = %v", err)
		}
		return resp.ID.String()
	}
	lilei := person("1001", "李雷", "+8613800001001")
	person("1002", "韩梅梅", "+8613800001002")
	shop := h.backEnd("orders", s.base, d.serviceKey("service"))

	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	var result struct {
		UUID  string `json:"uuid"`
		Steps []struct {
			What     string   `json:"what"`
			Requests []string `json:"requests"`
		} `json:"steps"`
	}
	h.node(ctx, filepath.Join("demo", "demo.mjs"), map[string]any{
		"yufu": s.base, "admin": s.admin, "adminKey": admin, "orders": shop.base, "sim": d.sim.base, "clientId": s.app,
		"person": lilei, "screenshots": os.Getenv("YUFU_TEST_SCREENSHOTS"),
	}, &result)
	for _, step := range result.Steps {
		t.Logf("%s: %s", step.What, strings.Join(step.Requests, ", "))
	}
	if len(result.Steps) != 12 {
		t.Errorf("the demo made %d steps", len(result.Steps))
	}
}
