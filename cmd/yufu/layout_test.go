package main_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"

	"github.com/yufu-auth/yufu/pkg/masterkey"
)

// root is the path from this package's folder to the top of the repository.
const root = "../.."

const modulePath = "github.com/yufu-auth/yufu"

// tracked returns the files that git tracks and that exist, as slash-separated
// paths below the root.
func tracked(t *testing.T) []string {
	t.Helper()
	// The checkout may belong to another user, as it does in containers.
	cmd := exec.CommandContext(t.Context(), "git", "-c", "safe.directory=*", "ls-files", "-z")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	var files []string
	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		if _, err := os.Stat(filepath.Join(root, name)); err == nil {
			files = append(files, name)
		}
	}
	if len(files) == 0 {
		t.Fatal("git ls-files lists no file")
	}
	return files
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTopLevel(t *testing.T) {
	t.Parallel()
	want := []string{"Makefile", "README.md", "api", "cmd", "db", "deploy", "go.mod", "go.sum", "pkg"}
	var got []string
	for _, name := range tracked(t) {
		top, _, _ := strings.Cut(name, "/")
		if !strings.HasPrefix(top, ".") && !slices.Contains(got, top) {
			got = append(got, top)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the top level has %q, want only %q and dot-files", got, want)
	}
}

// goPackage is a folder's non-test files, which the layout rules check.
type goPackage struct {
	dir     string // below the root, for example "pkg/auth"
	name    string
	doc     bool
	imports map[string]string // import path → a file that imports it
}

// goPackages parses the package clauses and imports of the non-test Go files.
func goPackages(t *testing.T) map[string]*goPackage {
	t.Helper()
	packages := map[string]*goPackage{}
	for _, name := range tracked(t) {
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || strings.Contains(name, "/testdata/") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, read(t, name), parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		dir := path.Dir(name)
		p := packages[dir]
		if p == nil {
			p = &goPackage{dir: dir, name: file.Name.Name, imports: map[string]string{}}
			packages[dir] = p
		}
		p.doc = p.doc || isPackageDoc(file)
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			p.imports[imported] = name
		}
	}
	return packages
}

func isPackageDoc(file *ast.File) bool {
	return file.Doc != nil && strings.TrimSpace(file.Doc.Text()) != ""
}

// direction is the table of imports inside the repository. The longest folder that matches a
// package decides. "=" before a folder matches only that folder. Every package may import the
// packages below its own folder.
var direction = []struct {
	folder string
	may    []string // folders, with all below them; "=" as above
}{
	{"cmd/yufu", []string{"api", "cmd/yufu/internal", "db", "pkg"}},
	{"=api", nil},
	{"api", []string{"=api", "api/web", "pkg"}},
	{"api/web", []string{"=api", "pkg"}},
	{"=db", []string{"pkg"}},
	{"db", []string{"=db", "pkg"}},
	{"pkg/auth", nil},
	{"pkg/bearer", []string{"pkg/bearer"}},
	{"=pkg/bearer", []string{"pkg/bearer/cutoff"}},
	{"pkg/bearer/cutoff", nil},
	{"pkg/seal", nil},
	{"=pkg/shard", []string{"pkg/auth", "pkg/seal"}},
	{"pkg/shard/shardtest", []string{"pkg/auth", "=pkg/shard"}},
	{"pkg/binding/webhook", []string{"pkg/auth", "pkg/netreason"}},
	{"pkg/netreason", nil},
	{"pkg/app", []string{"pkg/auth", "=pkg/binding/webhook", "=pkg/platform", "pkg/seal"}},
	{"pkg/audit", []string{"pkg/auth"}},
	{"pkg/servicekey", []string{"pkg/auth"}},
	{"pkg/masterkey", []string{"pkg/auth", "pkg/seal"}},
	{"=pkg/cutoffs", []string{"pkg/auth", "pkg/bearer/cutoff"}},
	{"pkg/adminclient", nil},
	{"pkg/telemetry", nil},
	{"pkg/token", []string{"pkg/auth", "=pkg/bearer"}},
	{"pkg/keyring", []string{"pkg/auth", "pkg/seal", "pkg/token"}},
	{"=pkg/session", []string{"pkg/app", "pkg/auth", "=pkg/platform", "pkg/seal", "=pkg/shard", "pkg/token"}},
	{"pkg/person", []string{"pkg/auth", "pkg/seal", "=pkg/session"}},
	{"=pkg/binding", []string{"pkg/app", "pkg/auth", "pkg/person", "=pkg/platform", "pkg/seal", "=pkg/session", "pkg/token"}},
	{"=pkg/platform", []string{"pkg/auth"}},
	{"pkg/platform", []string{"pkg/auth", "=pkg/platform"}},
	{"pkg/platform/accesstoken", []string{"pkg/auth", "=pkg/platform", "pkg/seal"}},
	{"pkg/platform/wechat", []string{"pkg/auth", "pkg/netreason", "=pkg/platform", "pkg/platform/accesstoken", "pkg/seal"}},
	// Packages that assemble parts for tests.
	{"pkg/session/sessiontest", []string{"=db", "pkg"}},
	{"pkg/binding/bindingtest", []string{"=db", "pkg"}},
	{"pkg/cutoffs/cutoffstest", []string{"pkg/auth", "=pkg/cutoffs"}},
}

// TestSealedColumns checks that the list of the sealed columns has every place that the
// program names when it seals a value, and no other.
func TestSealedColumns(t *testing.T) {
	t.Parallel()
	var named, listed []string
	place := regexp.MustCompile(`seal\.AAD\("(\w+)", "(\w+)"`)
	for _, name := range tracked(t) {
		if !strings.HasPrefix(name, "pkg/") || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, m := range place.FindAllStringSubmatch(string(read(t, name)), -1) {
			named = append(named, m[1]+"."+m[2])
		}
	}
	for _, c := range masterkey.Columns {
		listed = append(listed, c.Table+"."+c.Name)
	}
	slices.Sort(named)
	slices.Sort(listed)
	if !slices.Equal(named, listed) {
		t.Errorf("values are sealed for %q, the list of columns has %q", named, listed)
	}
}

// within reports whether dir matches a folder of the table.
func within(dir, folder string) bool {
	if exact, ok := strings.CutPrefix(folder, "="); ok {
		return dir == exact
	}
	return dir == folder || strings.HasPrefix(dir, folder+"/")
}

// allowed returns the folders that dir may import, and whether the table has a row for dir.
func allowed(dir string) (may []string, ok bool) {
	longest := -1
	for _, rule := range direction {
		if n := len(strings.TrimPrefix(rule.folder, "=")); within(dir, rule.folder) && n >= longest {
			// Among matches of the same length, an exact one decides.
			if n == longest && !strings.HasPrefix(rule.folder, "=") {
				continue
			}
			longest, may, ok = n, rule.may, true
		}
	}
	return may, ok
}

// mayImport reports whether the table lets the package in one folder import the package in
// another.
func mayImport(from, to string) bool {
	may, ok := allowed(from)
	return ok && (within(to, from) || slices.ContainsFunc(may, func(folder string) bool { return within(to, folder) }))
}

func TestImports(t *testing.T) {
	t.Parallel()

	t.Run("go in one direction", func(t *testing.T) {
		t.Parallel()
		for dir, p := range goPackages(t) {
			if _, ok := allowed(dir); !ok {
				t.Errorf("%s: the table of imports has no row for this package", dir)
			}
			for imported, file := range p.imports {
				to, ours := strings.CutPrefix(imported, modulePath+"/")
				if ours && !mayImport(dir, to) {
					t.Errorf("%s imports %s, which the table of imports forbids", file, to)
				}
			}
		}
	})

	t.Run("keep the vocabulary free of dependencies", func(t *testing.T) {
		t.Parallel()
		for imported, file := range goPackages(t)["pkg/auth"].imports {
			standard := !strings.Contains(strings.Split(imported, "/")[0], ".")
			if !standard && imported != "github.com/google/uuid" {
				t.Errorf("%s imports %s; pkg/auth may import only the standard library and google/uuid", file, imported)
			}
		}
	})

	// Each library for back ends has one dependency.
	for library, dependency := range map[string]string{"pkg/bearer": "github.com/golang-jwt/jwt/v5", "pkg/adminclient": "github.com/google/uuid"} {
		t.Run("keep "+library+" to "+path.Base(strings.TrimSuffix(dependency, "/v5")), func(t *testing.T) {
			t.Parallel()
			for dir, p := range goPackages(t) {
				if !within(dir, library) {
					continue
				}
				for imported, file := range p.imports {
					standard := !strings.Contains(strings.Split(imported, "/")[0], ".")
					if !standard && imported != dependency && !within(imported, modulePath+"/"+library) {
						t.Errorf("%s imports %s; %s may import only the standard library and %s", file, imported, library, dependency)
					}
				}
			}
			mod, err := modfile.Parse("go.mod", read(t, library+"/go.mod"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(mod.Require) != 1 || mod.Require[0].Mod.Path != dependency {
				t.Errorf("%s/go.mod requires %v, want only %s", library, mod.Require, dependency)
			}
		})
	}

	t.Run("keep database drivers below db", func(t *testing.T) {
		t.Parallel()
		for dir, p := range goPackages(t) {
			for imported, file := range p.imports {
				for _, driver := range []string{"github.com/jackc/pgx", "modernc.org/sqlite", "github.com/pressly/goose", "database/sql"} {
					if within(imported, driver) && !within(dir, "db") {
						t.Errorf("%s imports %s, which only packages below db may import", file, imported)
					}
				}
			}
		}
	})

	t.Run("keep packages for tests out of the program", func(t *testing.T) {
		t.Parallel()
		packages := goPackages(t)
		forTests := func(dir string) bool { return packages[dir] != nil && packages[dir].imports["testing"] != "" }
		for dir, p := range packages {
			for imported, file := range p.imports {
				to, ours := strings.CutPrefix(imported, modulePath+"/")
				if ours && forTests(to) && !forTests(dir) {
					t.Errorf("%s imports %s, which is for tests", file, to)
				}
				for _, tool := range []string{"github.com/getkin/kin-openapi", "github.com/google/go-cmp", "pgregory.net/rapid", "github.com/standard-webhooks"} {
					if within(imported, tool) && !forTests(dir) {
						t.Errorf("%s imports %s, which is for tests", file, imported)
					}
				}
			}
		}
	})

	// These check the table itself, so that a mistake in it does not allow everything.
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"cmd/yufu", "db/postgres", true},
		{"cmd/yufu/internal/x", "api/oauth", true},
		{"api", "pkg/auth", false},
		{"api/oauth", "api", true},
		{"api/oauth", "api/web", true},
		{"api/oauth", "api/gate", false},
		{"api/oauth", "db/sqlite", false},
		{"api/web", "api/oauth", false},
		{"api/web", "pkg/auth", true},
		{"db/postgres", "db", true},
		{"db/postgres", "db/sqlite", false},
		{"db/postgres", "db/postgres/migrations", true},
		{"db/sqlite", "api/web", false},
		{"pkg/session", "pkg/token", true},
		{"pkg/session", "pkg/platform", true},
		{"pkg/session", "pkg/platform/wechat", false},
		{"pkg/session", "pkg/keyring", false},
		{"pkg/session/sessiontest", "pkg/platform/wechat", true},
		{"pkg/token", "pkg/keyring", false},
		{"pkg/token", "pkg/bearer", true},
		{"pkg/session", "pkg/bearer", false},
		{"pkg/session", "db/sqlite", false},
		{"pkg/session", "api", false},
		{"pkg/session", "cmd/yufu", false},
		{"pkg/auth", "pkg/seal", false},
		{"pkg/bearer", "pkg/bearer/cutoff", true},
		{"pkg/bearer", "pkg/auth", false},
		{"pkg/bearer/cutoff", "pkg/bearer", false},
		{"pkg/bearer/bearertest", "pkg/bearer", true},
		{"pkg/bearer/example", "pkg/token", false},
		{"pkg/cutoffs", "pkg/bearer/cutoff", true},
		{"pkg/platform", "pkg/auth", true},
		{"pkg/platform", "pkg/seal", false},
		{"pkg/platform/wechat", "pkg/platform", true},
		{"pkg/platform/wechat", "pkg/platform/wechatsim", false},
		{"pkg/platform/wechat", "pkg/platform/accesstoken", true},
		{"pkg/platform/accesstoken", "pkg/platform/wechat", false},
		{"pkg/platform/guard", "pkg/platform/accesstoken", false},
		{"pkg/binding/webhook", "pkg/netreason", true},
		{"pkg/binding/webhook", "pkg/platform", false},
		{"pkg/platform/wechatsim", "pkg/platform/wechat", false},
		{"pkg/cutoffs/cutoffstest", "pkg/session", false},
		{"pkg/without_a_row", "pkg/auth", false},
		{"deploy/x", "pkg/auth", false},
	} {
		verb := "may"
		if !c.want {
			verb = "may not"
		}
		t.Run(c.from+" "+verb+" import "+c.to, func(t *testing.T) {
			t.Parallel()
			if got := mayImport(c.from, c.to); got != c.want {
				t.Errorf("mayImport(%q, %q) = %t, want %t", c.from, c.to, got, c.want)
			}
		})
	}
}

func TestPackages(t *testing.T) {
	t.Parallel()

	t.Run("packages have a package comment", func(t *testing.T) {
		t.Parallel()
		for dir, p := range goPackages(t) {
			if !p.doc {
				t.Errorf("%s has no package comment", dir)
			}
		}
	})

	t.Run("packages have descriptive names", func(t *testing.T) {
		t.Parallel()
		for dir, p := range goPackages(t) {
			for _, empty := range []string{"util", "utils", "common", "helper", "helpers", "model", "models", "types", "misc", "base"} {
				if p.name == empty || path.Base(dir) == empty {
					t.Errorf("%s: the name %q does not describe the package", dir, empty)
				}
			}
		}
	})

	t.Run("packages have files of fewer than 500 lines", func(t *testing.T) {
		t.Parallel()
		for _, name := range tracked(t) {
			if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, ".gen.go") {
				continue
			}
			if lines := bytes.Count(read(t, name), []byte("\n")); lines >= 500 {
				t.Errorf("%s has %d lines, want fewer than 500", name, lines)
			}
		}
	})
}

func TestFiles(t *testing.T) {
	t.Parallel()
	// Split, so that this file does not contain them.
	needles := []string{
		"proxy.golang" + ".org", "sum.golang" + ".org", "goproxy" + ".",
		"registry.npmjs" + ".org", "registry.npmmirror" + ".com", "registry.yarnpkg" + ".com",
		"deb.debian" + ".org", "archive.ubuntu" + ".com", "dl-cdn.alpinelinux" + ".org",
		"/wor" + "k/", "/ro" + "ot/go/", "shared/" + "design",
	}
	t.Run("name no registry host and no path of one machine", func(t *testing.T) {
		t.Parallel()
		for _, name := range tracked(t) {
			content := read(t, name)
			for _, needle := range needles {
				if bytes.Contains(content, []byte(needle)) {
					t.Errorf("%s contains %q", name, needle)
				}
			}
		}
	})
}
