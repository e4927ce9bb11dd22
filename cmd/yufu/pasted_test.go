package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// startDev runs yufu dev on free ports and in a folder of its own until the test ends. It
// returns a function that replaces the default ports and folder in a script.
func startDev(t *testing.T) (readdress func(string) string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	out, stdout := io.Pipe()
	dir := filepath.Join(t.TempDir(), "data")
	exited := make(chan int, 1)
	go func() {
		args := []string{"dev", "--data-dir", dir,
			"--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--sim-listen", "127.0.0.1:0", "--log-level", "error"}
		exited <- run(ctx, args, nil, streams{strings.NewReader(""), stdout, t.Output()})
		_ = stdout.Close()
	}()
	t.Cleanup(func() {
		stop()
		if code := <-exited; code != 0 {
			t.Errorf("yufu dev exited with %d", code)
		}
	})

	// yufu dev prints the tour when all its listeners are open: first the public address,
	// second the admin address, third the simulator's.
	address := regexp.MustCompile(`127\.0\.0\.1:[0-9]+`)
	var addresses []string
	lines := bufio.NewScanner(out)
	for len(addresses) < 3 && lines.Scan() {
		addresses = append(addresses, address.FindAllString(lines.Text(), -1)...)
	}
	if len(addresses) < 3 {
		t.Fatalf("yufu dev named the addresses %q, want three", addresses)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }() // until stdout is closed

	return strings.NewReplacer("127.0.0.1:8080", addresses[0], "127.0.0.1:8081", addresses[1], "127.0.0.1:8082", addresses[2], ".yufu/", dir+"/").Replace
}

// shellBlocks returns the sh blocks of a document that use curl, between the lines that start
// with two headings.
func shellBlocks(t *testing.T, name, from, to string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", name))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(b), "\n"+from)
	section, _, ended := strings.Cut(section, "\n"+to)
	if !found || !ended {
		t.Fatalf("%s has no section from %q to %q", name, from, to)
	}
	var script strings.Builder
	for _, m := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(section, -1) {
		if strings.Contains(m[1], "curl") {
			script.WriteString(m[1])
		}
	}
	return script.String()
}

func TestDocuments(t *testing.T) {
	t.Parallel()
	readdress := startDev(t)

	for _, doc := range []struct{ name, from, to string }{
		{"README.md", "## Run it", "## Use it"},
		{"deploy/guide/en/quickstart.md", "## 2.", "## 3."},
		{"deploy/guide/zh/quickstart.md", "## 2.", "## 3."},
	} {
		t.Run(doc.name+" works as pasted", func(t *testing.T) {
			t.Parallel()
			script := readdress(shellBlocks(t, doc.name, doc.from, doc.to))
			cmd := exec.CommandContext(t.Context(), "sh", "-eu", "-c", script)
			cmd.Stderr = t.Output()
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("the commands fail: %v\n%s", err, script)
			}

			var answers []map[string]any
			for line := range strings.Lines(string(out)) {
				var answer map[string]any
				if err := json.Unmarshal([]byte(line), &answer); err != nil {
					t.Fatalf("the commands print %q, want JSON: %v", line, err)
				}
				answers = append(answers, answer)
			}
			if len(answers) < 5 {
				t.Fatalf("the commands print %d answers, want at least who I am, two refreshes, the log-out, and the refusal:\n%s", len(answers), out)
			}
			answers = answers[len(answers)-5:]
			me, refreshed, replayed, loggedOut, refused := answers[0], answers[1], answers[2], answers[3], answers[4]
			if me["uuid"] == nil || me["uuid"] != refreshed["uuid"] {
				t.Errorf("/v1/me answers %v, the refresh answers the uuid %v; want the same uuid", me, refreshed["uuid"])
			}
			if token, ok := refreshed["refresh_token"].(string); !ok || token != replayed["refresh_token"] {
				t.Errorf("the same refresh token yields %v, then %v; want the same successor", refreshed["refresh_token"], replayed["refresh_token"])
			}
			if loggedOut["error"] != nil || loggedOut["code"] != nil {
				t.Errorf("the log-out or the revocation answers %v, want no error", loggedOut)
			}
			if refused["code"] != "session_revoked" {
				t.Errorf("/v1/me after the log-out answers %v, want session_revoked", refused)
			}
		})
	}
}

func TestBindingDocuments(t *testing.T) {
	t.Parallel()
	for _, doc := range []struct{ name, from, to string }{
		{"deploy/guide/en/binding.md", "## The four methods", "## What the mini-program does"},
		{"deploy/guide/zh/binding.md", "## 四种方式", "## 小程序要做的事"},
	} {
		t.Run(doc.name+" works as pasted", func(t *testing.T) {
			t.Parallel()
			// Each test has its own service, because a binding ends alice's other tokens.
			script := startDev(t)(shellBlocks(t, doc.name, doc.from, doc.to))
			cmd := exec.CommandContext(t.Context(), "sh", "-eu", "-c", script)
			cmd.Stderr = t.Output()
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("the commands fail: %v\n%s", err, script)
			}
			var answers []map[string]any
			for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
				var answer map[string]any
				if err := d.Decode(&answer); err != nil {
					t.Fatalf("the commands print %q: %v", out, err)
				}
				answers = append(answers, answer)
			}
			if len(answers) != 2 || answers[0]["bound"] != false || answers[1]["bound"] != true || answers[1]["access_token"] == nil {
				t.Errorf("the commands print %s, want bound false, then bound true with an access token", out)
			}
		})
	}
}

// TestBearerDocument runs the command that the documentation of pkg/bearer shows.
func TestBearerDocument(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join("..", "..", "pkg", "bearer", "doc.go"))
	if err != nil {
		t.Fatal(err)
	}
	commands := regexp.MustCompile(`(?m)^//\tyufu (.*)$`).FindAllStringSubmatch(string(b), -1)
	if len(commands) != 1 {
		t.Fatalf("pkg/bearer/doc.go shows %d commands, want 1", len(commands))
	}
	readdress := startDev(t)
	var stdout, stderr strings.Builder
	args := strings.Fields(readdress(commands[0][1]))
	if code := run(t.Context(), args, nil, streams{strings.NewReader(""), &stdout, &stderr}); code != 0 || !strings.HasPrefix(stdout.String(), "yfk_") {
		t.Errorf("yufu %s: exit code %d, %q, %q; want 0 and a service key", commands[0][1], code, stdout.String(), stderr.String())
	}
}
