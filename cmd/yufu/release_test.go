package main_test

import (
	"archive/zip"
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"
)

// allModuleDirs returns the folder of every Go module of the repository, "." first.
func allModuleDirs(t *testing.T) []string {
	t.Helper()
	var dirs []string
	for _, name := range tracked(t) {
		if path.Base(name) == "go.mod" {
			dirs = append(dirs, path.Dir(name))
		}
	}
	slices.Sort(dirs)
	return dirs
}

// moduleDirs returns the folder of every Go module of the repository that others may
// use, "." first. Those in .ci/heavy are tests only.
func moduleDirs(t *testing.T) []string {
	t.Helper()
	heavy := heavyFolders(t)
	dirs := slices.DeleteFunc(allModuleDirs(t), func(dir string) bool { return slices.Contains(heavy, dir) })
	if len(dirs) < 2 || dirs[0] != "." {
		t.Fatalf("modules in %q, want one at the top and others below", dirs)
	}
	return dirs
}

// packed is a file of the repository with its name in a module.
type packed struct{ name, in string }

func (f packed) Path() string                 { return f.in }
func (f packed) Lstat() (fs.FileInfo, error)  { return os.Lstat(filepath.Join(root, f.name)) }
func (f packed) Open() (io.ReadCloser, error) { return os.Open(filepath.Join(root, f.name)) }

func TestModuleZip(t *testing.T) {
	t.Parallel()
	all := allModuleDirs(t)
	for _, dir := range moduleDirs(t) {
		t.Run(dir, func(t *testing.T) {
			t.Parallel()
			mod := modfile.ModulePath(read(t, path.Join(dir, "go.mod")))
			var files []modzip.File
			for _, name := range tracked(t) {
				// owner is the folder of the innermost module that has the file.
				owner := "."
				for _, d := range all[1:] {
					if strings.HasPrefix(name, d+"/") && len(d) > len(owner) {
						owner = d
					}
				}
				if owner == dir {
					files = append(files, packed{name, strings.TrimPrefix(name, dir+"/")})
				}
			}
			var b bytes.Buffer
			if err := modzip.Create(&b, module.Version{Path: mod, Version: "v0.1.0"}, files); err != nil {
				t.Fatalf("%s cannot be fetched: %v", mod, err)
			}
			z, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
			if err != nil {
				t.Fatal(err)
			}
			if len(z.File) != len(files) {
				t.Errorf("the module has %d files, want %d", len(z.File), len(files))
			}
		})
	}
}

// release is a clone in which a release is made, and a module proxy that serves it.
type release struct {
	t           *testing.T
	repo, proxy string
	version     string
}

// newRelease returns a repository with the files of this one.
func newRelease(t *testing.T) *release {
	t.Helper()
	r := &release{t: t, repo: t.TempDir(), proxy: t.TempDir(), version: "v0.1.0-test." + strings.ToLower(rand.Text())}
	for _, name := range tracked(t) {
		copyTo(t, r.repo, name)
	}
	for _, script := range []string{"folders", "release"} {
		if err := os.Chmod(filepath.Join(r.repo, ".ci", script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r.git("init", "--quiet", "--initial-branch", "main")
	r.git("add", "--all", "--force")
	r.git("commit", "--quiet", "--message", "all")
	return r
}

// run runs a program and returns what it printed.
func (r *release) run(dir string, env []string, program string, args ...string) string {
	r.t.Helper()
	out, err := r.try(dir, env, program, args...)
	if err != nil {
		r.t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return out
}

func (r *release) try(dir string, env []string, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(r.t.Context(), program, args...)
	cmd.Dir = dir
	// The settings of this machine for git and Go do not apply.
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com",
		"GOENV=off", "GOWORK=off", "GOFLAGS=-modcacherw", "CGO_ENABLED=0")
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// in returns the release for a subtest.
func (r release) in(t *testing.T) *release {
	r.t = t
	return &r
}

func (r *release) git(args ...string) string {
	r.t.Helper()
	return r.run(r.repo, nil, "git", args...)
}

// publish writes the release to a folder that serves as a module proxy.
func (r *release) publish() {
	r.t.Helper()
	for _, dir := range moduleDirs(r.t) {
		tag, subdir := r.version, ""
		if dir != "." {
			tag, subdir = dir+"/"+r.version, dir
		}
		gomod := r.git("show", tag+":"+path.Join(subdir, "go.mod"))
		mod := module.Version{Path: modfile.ModulePath([]byte(gomod)), Version: r.version}
		at := filepath.Join(r.proxy, mod.Path, "@v")
		var b bytes.Buffer
		if err := modzip.CreateFromVCS(&b, mod, r.repo, tag, subdir); err != nil {
			r.t.Fatal(err)
		}
		if err := os.MkdirAll(at, 0o700); err != nil {
			r.t.Fatal(err)
		}
		for name, content := range map[string]string{
			"list": r.version + "\n", r.version + ".info": `{"Version":"` + r.version + `"}`, r.version + ".mod": gomod, r.version + ".zip": b.String(),
		} {
			if err := os.WriteFile(filepath.Join(at, name), []byte(content), 0o600); err != nil {
				r.t.Fatal(err)
			}
		}
	}
}

// fetching returns an environment in which Go uses only the proxy and the module cache of this
// machine. The release goes into that cache, and is removed at the end of the test.
func (r *release) fetching() []string {
	r.t.Helper()
	cache := strings.TrimSpace(r.run(r.repo, nil, "go", "env", "GOMODCACHE"))
	var mods []string
	for _, dir := range moduleDirs(r.t) {
		mods = append(mods, modfile.ModulePath(read(r.t, path.Join(dir, "go.mod"))))
	}
	r.t.Cleanup(func() {
		for _, mod := range mods {
			at := filepath.Join(cache, "cache", "download", mod, "@v")
			left, err := filepath.Glob(filepath.Join(at, r.version+".*"))
			if err != nil {
				r.t.Error(err)
			}
			for _, name := range append(left, filepath.Join(cache, mod+"@"+r.version)) {
				if err := os.RemoveAll(name); err != nil {
					r.t.Error(err)
				}
			}
			list, err := os.ReadFile(filepath.Join(at, "list"))
			if err == nil {
				list = bytes.ReplaceAll(list, []byte(r.version+"\n"), nil)
				err = os.WriteFile(filepath.Join(at, "list"), list, 0o644)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				r.t.Error(err)
			}
		}
	})
	return []string{"GOPROXY=file://" + filepath.ToSlash(r.proxy) + ",file://" + filepath.ToSlash(cache) + "/cache/download", "GOSUMDB=off"}
}

func TestRelease(t *testing.T) {
	t.Parallel()
	r := newRelease(t)
	before := r.git("rev-parse", "main")
	out := r.run(r.repo, nil, filepath.Join(r.repo, ".ci", "release"), r.version)
	for _, dir := range moduleDirs(t)[1:] {
		if !strings.Contains(out, "git push origin") || !strings.Contains(out, " "+dir+"/"+r.version) {
			t.Errorf("the script does not print how to publish %s:\n%s", dir, out)
		}
	}
	if r.git("rev-parse", "main") != before || r.git("status", "--porcelain") != "" || r.git("worktree", "list", "--porcelain") == "" {
		t.Error("the script changed the branch or left changes")
	}
	if n := strings.Count(r.git("worktree", "list"), "\n"); n != 1 {
		t.Errorf("the script left %d work trees, want 1", n)
	}
	r.publish()
	env := r.fetching()

	t.Run("can be installed by its version", func(t *testing.T) {
		r := r.in(t)
		bin := t.TempDir()
		r.run(t.TempDir(), append(env, "GOBIN="+bin), "go", "install", modulePath+"/cmd/yufu@"+r.version)
		if out := r.run(bin, nil, filepath.Join(bin, "yufu"), "version"); !strings.HasPrefix(out, "yufu "+r.version+" ") {
			t.Errorf("yufu version prints %q, want %s", out, r.version)
		}
	})
	for library, use := range map[string]string{"bearer": "bearer.ErrInvalid.Error()", "adminclient": "adminclient.CodeNotFound"} {
		t.Run("has the library "+library+" for other modules", func(t *testing.T) {
			r := r.in(t)
			dir := t.TempDir()
			r.run(dir, env, "go", "mod", "init", "example.com/orders")
			program := "package main\n\nimport \"" + modulePath + "/pkg/" + library + "\"\n\nfunc main() { println(" + use + ") }\n"
			if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(program), 0o600); err != nil {
				t.Fatal(err)
			}
			r.run(dir, env, "go", "get", modulePath+"/pkg/"+library+"@"+r.version)
			r.run(dir, env, "go", "build", "-o", filepath.Join(dir, "orders"), ".")
		})
	}
	t.Run("builds in a clone with its own checksums", func(t *testing.T) {
		r := r.in(t)
		dir := filepath.Join(t.TempDir(), "yufu")
		r.git("clone", "--quiet", "--branch", r.version, r.repo, dir)
		gomod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err != nil || regexp.MustCompile(`(?m)^replace|=>`).Match(gomod) {
			t.Errorf("its go.mod has a replace line, or cannot be read (%v):\n%s", err, gomod)
		}
		r.run(dir, append(env, "GOFLAGS=-mod=readonly -modcacherw"), "go", "list", "-deps", "./...")
	})
	t.Run("needs a new version, a valid one, and a clean work tree", func(t *testing.T) {
		r := r.in(t)
		refused := func(want string, args ...string) {
			t.Helper()
			tags := r.git("tag")
			out, err := r.try(r.repo, nil, filepath.Join(r.repo, ".ci", "release"), args...)
			if err == nil || !strings.Contains(out, want) {
				t.Errorf("release %q: error %v, want a refusal with %q:\n%s", args, err, want, out)
			}
			if r.git("tag") != tags || strings.Count(r.git("worktree", "list"), "\n") != 1 {
				t.Errorf("release %q was refused and left tags or a work tree", args)
			}
		}
		refused("there is a tag", r.version)
		for _, version := range []string{"", "1.0.0", "v1", "v2.0.0", "v01.0.0", "v0.1.0 --force", "v0.1.0\nv0.2.0"} {
			refused("VERSION must be", version)
		}
		copyTo(t, r.repo, "README.md")
		if err := os.WriteFile(filepath.Join(r.repo, "README.md"), []byte("changed"), 0o600); err != nil {
			t.Fatal(err)
		}
		refused("not committed", "v0.2.0")
	})
}
