package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// sqlite3 runs the system's sqlite3 on a file and returns its output.
func (h *harness) sqlite3(path, command string) string {
	h.t.Helper()
	out, err := exec.Command("sqlite3", "-batch", path, command).CombinedOutput()
	if err != nil {
		h.t.Fatalf("sqlite3: %s: %v: %s (if it is missing: sudo make deps)", command, err, out)
	}
	return strings.TrimSpace(string(out))
}

const sqliteIntegrity = "pragma integrity_check; pragma foreign_key_check"

func TestSQLiteFile(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	path := h.file("yufu.db", "")
	d := deploy(h, "sqlite:"+path)
	p, s := d.serve("yufu", "--migrate")
	d.addApp()
	alice := s.logIn("alice")

	refused := func(t *testing.T, env settings, args ...string) {
		t.Helper()
		r := d.in(t).run(env, "", args...)
		if r.code != 1 || !strings.Contains(r.stderr, "names a database that another process serves from (yufu serve or yufu dev): "+env.sqlitePath()) {
			t.Errorf("yufu %s: exit code %d: %s", strings.Join(args, " "), r.code, r.stderr)
		}
	}

	t.Run("only one process serves the file", func(t *testing.T) {
		refused(t, d.env, "serve")
		refused(t, d.env, "serve", "--migrate")
		link := filepath.Join(t.TempDir(), "link.db")
		if err := os.Symlink(path, link); err != nil {
			t.Fatal(err)
		}
		refused(t, d.env.with(settings{"YUFU_DATABASE_URL": "sqlite:" + link}), "serve")
		s.in(t).me(alice.Doc.AccessToken).want(s, 200, "")
	})

	t.Run("commands can use the file while that process runs", func(t *testing.T) {
		d := &deployment{d.in(t), d.env, d.sim}
		d.mustRun(d.env, "", "migrate")
		d.mustRun(d.env, "", "app", "list")
		d.mustRun(d.env, "", "keys", "rotate")
		key := d.serviceKey("admin")
		s := s.in(t)
		s.must(s.get(s.admin+"/admin/v1/service-keys", key)).want(s, 200, "")
	})

	t.Run("the guide's commands copy the file while that process runs, and a plain copy is incomplete", func(t *testing.T) {
		h := h.in(t)
		dir := t.TempDir()
		backup, vacuumed, copied := filepath.Join(dir, "backup.db"), filepath.Join(dir, "vacuumed.db"), filepath.Join(dir, "copied.db")
		h.sqlite3(path, `.backup `+backup)
		h.sqlite3(path, `vacuum into '`+vacuumed+`'`)
		for _, file := range []string{backup, vacuumed} {
			if got := h.sqlite3(file, sqliteIntegrity); got != "ok" {
				t.Errorf("the integrity check of %s prints %s, want ok", file, got)
			}
			if got := h.sqlite3(file, `select count(*) from sessions`); got != "1" {
				t.Errorf("%s has %s sessions, want 1", file, got)
			}
			h.mustRun(d.env.with(settings{"YUFU_DATABASE_URL": "sqlite:" + file}), "", "app", "show", testApp)
		}
		b, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(copied, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("sqlite3", "-batch", copied, `select count(*) from sessions`).CombinedOutput(); err == nil && string(out) == "1\n" {
			t.Error("a copy of the file without its WAL has the session: the guide's warning is out of date")
		}
	})

	t.Run("the file is free at once after the process was killed", func(t *testing.T) {
		p.kill()
		d := &deployment{d.in(t), d.env, d.sim}
		p, s := d.serve("yufu, restarted")
		s.me(alice.Doc.AccessToken).want(s, 200, "")
		s.logOut(alice.Doc.RefreshToken)
		p.stop()
		if got := d.sqlite3(path, sqliteIntegrity); got != "ok" {
			t.Errorf("after the kill the integrity check prints %s, want ok", got)
		}
	})

	t.Run("only one process serves the file of yufu dev", func(t *testing.T) {
		h := h.in(t)
		dir := filepath.Join(t.TempDir(), "data")
		h.dev("yufu dev", dir)
		file := filepath.Join(dir, "yufu.db")
		refused(t, devSettings(dir), "dev")
		refused(t, d.env.with(settings{"YUFU_DATABASE_URL": "sqlite:" + file}), "serve")
		if got := h.sqlite3(file, sqliteIntegrity); got != "ok" {
			t.Errorf("the integrity check prints %s, want ok", got)
		}
	})
}

// sqlitePath returns the database file in the settings.
func (s settings) sqlitePath() string {
	if dir := s["YUFU_DATA_DIR"]; dir != "" {
		return filepath.Join(dir, "yufu.db")
	}
	return strings.TrimPrefix(s["YUFU_DATABASE_URL"], "sqlite:")
}
