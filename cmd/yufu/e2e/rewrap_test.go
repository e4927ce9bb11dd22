package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/db/pgtest"
)

// rewrapRun is a deployment whose master key is changed.
type rewrapRun struct {
	*deployment
	file    string
	proc    *process
	service *service
	rereads int
}

// change writes the master-key file and makes the service read it.
func (run *rewrapRun) change(lines string) {
	run.t.Helper()
	if err := os.WriteFile(run.file, []byte(lines), 0o600); err != nil {
		run.t.Fatal(err)
	}
	run.rereads++
	run.proc.signal(syscall.SIGHUP)
	run.proc.await(run.proc.stderr, "that it has read the master key again", func(text string) bool {
		n := 0
		for _, l := range logLines(text) {
			if l.Msg == "file reread" && l.Setting == "YUFU_MASTER_KEY_FILE" {
				n++
			}
		}
		return n == run.rereads
	})
}

// lineCount is what yufu master-key status prints for one line and one kind of value.
type lineCount struct {
	Line, Values      int
	Fingerprint, What string
}

func (run *rewrapRun) status() (counts []lineCount) {
	run.t.Helper()
	out := run.mustRun(run.env, "", "master-key", "status", "--json")
	if err := json.Unmarshal([]byte(out), &counts); err != nil {
		run.t.Fatalf("master-key status: %v\n%s", err, out)
	}
	return counts
}

// values returns what a line of the file seals. The test fails if no line opens a value.
func (run *rewrapRun) values(line int) map[string]int {
	run.t.Helper()
	values := map[string]int{}
	for _, n := range run.status() {
		if n.Line == line && n.Values > 0 {
			values[n.What] = n.Values
		}
	}
	return values
}

// stuck starts a rewrap and returns it when it waits for a locked row, which it does until
// release is called.
func (run *rewrapRun) stuck(locker, watcher *pgx.Conn, uuids []string) (p *process, release func()) {
	run.t.Helper()
	ctx := run.t.Context()
	tx, err := locker.Begin(ctx)
	if err != nil {
		run.t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, `select from identities where uuid = any ($1::text[]::uuid[]) for update`, uuids); err != nil {
		run.t.Fatal(err)
	}
	p = run.start("yufu master-key rewrap", run.env, "master-key", "rewrap", "--reason", "a test")
	// Of a rewrap that has ended, a statement may still wait in the server.
	writing := func(where string) (n int) {
		run.t.Helper()
		err := watcher.QueryRow(ctx, `select count(*) from pg_stat_activity
where datname = current_database() and state = 'active' and query like 'update identities set sealed_session_key%'`+where).Scan(&n)
		if err != nil {
			run.t.Fatal(err)
		}
		return n
	}
	run.eventually("rewrap waits for a locked row", func() bool { return writing(` and wait_event_type = 'Lock'`) > 0 })
	return p, func() {
		run.t.Helper()
		if err := tx.Rollback(ctx); err != nil {
			run.t.Fatal(err)
		}
		run.eventually("no statement of the rewrap is left", func() bool { return writing(``) == 0 })
	}
}

// logInUntil logs users in again and again until stop is set.
func (run *rewrapRun) logInUntil(stop *atomic.Bool, user string) error {
	for !stop.Load() {
		a, err := run.service.tryExchange(user)
		if err == nil && a.code() != "rate_limited" {
			err = a.failure()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", user, err)
		}
	}
	return nil
}

// TestRewrap changes the master key of a service under load. The command that seals
// everything again is interrupted, killed, and run again.
func TestRewrap(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	dsn := pgtest.Empty(t)
	before, after := h.masterKeyLine(), h.masterKeyLine()
	run := &rewrapRun{deployment: deploy(h, dsn), file: h.file("master.key", before)}
	run.env["YUFU_MASTER_KEY_FILE"] = run.file
	run.env["YUFU_EXCHANGE_SUCCESS_LIMIT"] = "0"
	run.proc, run.service = run.serve("yufu", "--migrate")
	run.addApp()
	s := run.service
	// Users who do not log in again. Each writer of a rewrap can wait for one of them.
	var quiet []string
	var tokens []string
	for i := range 8 {
		a := s.logIn(fmt.Sprint("quiet", i))
		quiet, tokens = append(quiet, a.Doc.UUID), append(tokens, a.Doc.RefreshToken)
	}
	var conns [2]*pgx.Conn
	for i := range conns {
		var err error
		if conns[i], err = pgx.Connect(t.Context(), dsn); err != nil {
			t.Fatal(err)
		}
		defer conns[i].Close(t.Context())
	}
	rewrap := []string{"master-key", "rewrap", "--reason", "a test"}
	run.change(before + after)
	// The service seals with the old key, so a command with the new one on top is refused.
	ahead := run.env.with(settings{"YUFU_MASTER_KEY_FILE": h.file("ahead.key", after+before)})
	if r := run.run(ahead, "", rewrap...); r.code != 1 || !strings.Contains(r.stderr, "a replica sealed with the master key") {
		t.Errorf("while the service seals with the old key: exit code %d: %s", r.code, r.stderr)
	}
	if v := run.values(2); len(v) != 0 {
		t.Errorf("after the refusal the new line seals %v, want nothing", v)
	}
	run.change(after + before)
	first := run.status()[0].Fingerprint
	h.eventually("the service has said with which key it seals", func() bool {
		var keys int
		if err := conns[0].QueryRow(t.Context(), `select count(distinct master_key) from (select master_key from replicas union all select $1) k`, first).Scan(&keys); err != nil {
			t.Fatal(err)
		}
		return keys == 1
	})

	phones := load(s, 10, 50, func() {
		var (
			stop    atomic.Bool
			logins  sync.WaitGroup
			failure [3]error
		)
		for i := range failure {
			logins.Go(func() { failure[i] = run.logInUntil(&stop, fmt.Sprint("busy", i)) })
		}
		wantMiddle := func(when string) {
			t.Helper()
			if first, second := run.values(1), run.values(2); first["AppSecrets"] != 1 || first["key of the shards"] != 1 || second["session_keys"] != len(quiet) {
				t.Errorf("%s: the lines seal %v and %v, want the AppSecret with the first and the quiet users with the second", when, first, second)
			}
		}
		p, release := run.stuck(conns[0], conns[1], quiet)
		p.signal(syscall.SIGINT)
		if code := p.wait(); code != 1 || !strings.Contains(p.stderr.String(), "run it again to continue: context canceled") {
			t.Errorf("after SIGINT: exit code %d: %s", code, p.stderr)
		}
		wantMiddle("interrupted")
		release()

		// The statements that waited may have taken effect. Each writer had a second row.
		p, release = run.stuck(conns[0], conns[1], quiet)
		p.kill()
		release()

		run.mustRun(run.env, "", rewrap...)
		if v := run.values(2); len(v) != 0 {
			t.Errorf("after the last run the old line seals %v, want nothing", v)
		}
		run.change(after)
		s.logIn("carol")
		stop.Store(true)
		logins.Wait()
		for _, err := range failure {
			if err != nil {
				t.Error(err)
			}
		}
	})
	run.proc.stop()

	_, s = run.serve("yufu, without the old key")
	continueAt(s, phones)
	for i, token := range tokens {
		s.refresh(token).want(s, 200, "")
		s.logIn(fmt.Sprint("quiet", i))
	}
	if v := run.values(1); v["session_keys"] != 8+10+3+1 || v["AppSecrets"] != 1 {
		t.Errorf("at the end the only line seals %v, want everything", v)
	}
	wantNothingLost(run.proc)
}
