package main_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// buildContext returns the tracked files that .dockerignore allows. It excludes everything,
// and then includes names at the top level again.
func buildContext(t *testing.T) []string {
	t.Helper()
	var top, never []string
	for line := range strings.Lines(string(read(t, ".dockerignore"))) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "!"); ok {
			top = append(top, name)
		} else if name, ok := strings.CutPrefix(line, "**/"); ok {
			never = append(never, name)
		} else if line != "" && line != "*" && !strings.HasPrefix(line, "#") {
			t.Fatalf("this test does not understand %q in .dockerignore", line)
		}
	}
	var files []string
	for _, name := range tracked(t) {
		parts := strings.Split(name, "/")
		if slices.Contains(top, parts[0]) && !slices.ContainsFunc(parts, func(p string) bool { return slices.Contains(never, p) }) {
			files = append(files, name)
		}
	}
	return files
}

// copyTo copies a file of the repository.
func copyTo(t *testing.T, dir, name string) {
	t.Helper()
	target := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(target, read(t, name), 0o600); err != nil {
		t.Fatal(err)
	}
}

// goIn runs the go command in a folder, without the network.
func goIn(t *testing.T, dir string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=-mod=readonly", "GOWORK=off", "CGO_ENABLED=0")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return out
}

// TestDockerfile runs the steps of the build stage in a folder, because few machines that run
// tests have Docker.
func TestDockerfile(t *testing.T) {
	t.Parallel()
	dockerfile := string(read(t, "deploy/Dockerfile"))
	build, final, ok := strings.Cut(dockerfile, "\nFROM scratch\n")
	if !ok {
		t.Fatal("the Dockerfile has no stage FROM scratch")
	}

	t.Run("has what each step of the build reads", func(t *testing.T) {
		t.Parallel()
		context := buildContext(t)
		dir := t.TempDir()
		steps := 0
		for line := range strings.Lines(build) {
			switch words := strings.Fields(line); {
			case len(words) > 2 && words[0] == "COPY":
				from, to := words[1:len(words)-1], words[len(words)-1]
				for _, name := range context {
					if slices.Contains(from, name) {
						if path.Clean(to) != path.Dir(name) {
							t.Errorf("%s is copied to %s, want %s", name, to, path.Dir(name))
						}
						copyTo(t, dir, name)
					} else if slices.Contains(from, ".") {
						copyTo(t, dir, name)
					}
				}
			case strings.HasPrefix(line, "RUN go mod download"):
				steps++
				var mod struct {
					Replace []struct {
						New struct{ Path, Version string }
					}
				}
				if err := json.Unmarshal(goIn(t, dir, "mod", "edit", "-json"), &mod); err != nil {
					t.Fatal(err)
				}
				for _, r := range mod.Replace {
					if r.New.Version != "" {
						continue
					}
					if _, err := os.Stat(filepath.Join(dir, r.New.Path, "go.mod")); err != nil {
						t.Errorf("go mod download needs %s/go.mod, which no COPY before it brings", r.New.Path)
					}
				}
			case strings.HasPrefix(line, "RUN CGO_ENABLED=0 go build"):
				steps++
				// Also fails if a file to embed is missing.
				goIn(t, dir, "list", "-deps", "./cmd/yufu")
			}
		}
		if steps != 2 {
			t.Errorf("this test finds %d steps in the build stage, want the download and the build", steps)
		}
	})

	t.Run("has the version of Go that go.mod requires", func(t *testing.T) {
		t.Parallel()
		want := regexp.MustCompile(`(?m)^go ([0-9]+\.[0-9]+)`).FindSubmatch(read(t, "go.mod"))
		if want == nil || !strings.Contains(build, "\nFROM golang:"+string(want[1])+"-") {
			t.Errorf("go.mod requires %q, the Dockerfile begins with another version:\n%s", want, build)
		}
	})

	t.Run("uses the newest patch of Go while go.mod requires the oldest", func(t *testing.T) {
		t.Parallel()
		if !regexp.MustCompile(`(?m)^FROM golang:[0-9]+\.[0-9]+-`).MatchString(build) || !strings.Contains(build, "docker build --pull ") {
			t.Errorf("the image names a patch of Go, or does not pull the newest:\n%s", build)
		}
		if compose := string(read(t, "deploy/compose.yaml")); !strings.Contains(compose, "\n      pull: true\n") {
			t.Error("compose builds with an image that was pulled before, want pull: true")
		}
		if !regexp.MustCompile(`(?m)^go [0-9]+\.[0-9]+\.0$`).Match(read(t, "go.mod")) || strings.Contains(string(read(t, "go.mod")), "\ntoolchain ") {
			t.Error("go.mod requires a newer patch of Go than patch 0, or a toolchain")
		}
	})

	t.Run("makes only the public listener reachable from the network", func(t *testing.T) {
		t.Parallel()
		if !strings.Contains(final, "\nENV YUFU_LISTEN=:8080\n") {
			t.Error("the public listener stays on the container's loopback interface")
		}
		if strings.Contains(final, "\nENV YUFU_ADMIN_LISTEN") {
			t.Error("the admin listener leaves the container's loopback interface")
		}
	})
}

// TestCompose checks the compose file's promises about secrets and containers.
func TestCompose(t *testing.T) {
	t.Parallel()
	compose := string(read(t, "deploy/compose.yaml"))

	t.Run("gives containers nothing that they do not need", func(t *testing.T) {
		t.Parallel()
		_, services, _ := strings.Cut(compose, "\nservices:\n")
		services, _, ok := strings.Cut(services, "\nsecrets:\n")
		blocks := regexp.MustCompile(`(?m)^  ([a-z]+):\n((?:    .*\n|\n)*)`).FindAllStringSubmatch(services+"\n", -1)
		if !ok || len(blocks) != 2 {
			t.Fatalf("this test finds %d services, want 2", len(blocks))
		}
		for _, block := range blocks {
			for _, line := range []string{"cap_drop: [ALL]", `security_opt: ["no-new-privileges:true"]`, "read_only: true"} {
				if !strings.Contains(block[2], "\n    "+line+"\n") {
					t.Errorf("the service %s lacks %s", block[1], line)
				}
			}
			for _, line := range []string{"privileged:", "cap_add:", "network_mode:", "pid:", "docker.sock"} {
				if strings.Contains(block[2], line) {
					t.Errorf("the service %s has %s", block[1], line)
				}
			}
		}
		for _, port := range regexp.MustCompile(`(?m)^      - ([0-9.:]+:[0-9]+)$`).FindAllStringSubmatch(services, -1) {
			if !strings.HasPrefix(port[1], "127.0.0.1:") {
				t.Errorf("the port %s is published beyond this machine", port[1])
			}
		}
	})
	t.Run("trusts no network by default", func(t *testing.T) {
		t.Parallel()
		if !strings.Contains(compose, "\n      YUFU_TRUSTED_PROXIES: ${YUFU_TRUSTED_PROXIES:-}\n") {
			t.Error("YUFU_TRUSTED_PROXIES has a default other than none")
		}
		if found := regexp.MustCompile(`[0-9.]+/[0-9]+`).FindAllString(compose, -1); found != nil {
			t.Errorf("the file names the networks %q, want no network", found)
		}
	})
	t.Run("makes secrets that only their owners can read", func(t *testing.T) {
		t.Parallel()
		_, recipe, _ := strings.Cut(compose, "#   (umask 077\n")
		recipe, _, ok := strings.Cut(recipe, "\n#\n")
		if !ok {
			t.Fatal("the file has no commands that make the secrets")
		}
		dir := t.TempDir()
		cmd := exec.CommandContext(t.Context(), "sh", "-c", "(umask 077\n"+strings.ReplaceAll(recipe, "#   ", ""))
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("the commands that make the secrets fail: %v: %s", err, out)
		}
		for _, name := range []string{"master.key", "postgres.password", "database.url"} {
			info, err := os.Stat(filepath.Join(dir, "deploy/secrets", name))
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != 0o600 || info.Size() < 40 {
				t.Errorf("%s has the mode %04o and %d bytes, want 0600 and 40 bytes or more", name, info.Mode().Perm(), info.Size())
			}
			if owner := regexp.MustCompile(`(?m)^#   sudo chown [0-9]+:[0-9]+ .*deploy/secrets/` + regexp.QuoteMeta(name)); !owner.MatchString(compose) {
				t.Errorf("the file has no chown for %s", name)
			}
		}
	})
}
