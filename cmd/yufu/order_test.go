package main_test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fileOrder holds the non-test files of this package. A file may use the declarations of files
// in the rows below its own, and of no other file in its row.
var fileOrder = [][]string{
	{"main.go"},
	// A file per subcommand.
	{"app.go", "audit.go", "dev.go", "keys.go", "masterkey.go", "migrate.go", "person.go", "serve.go", "servicekey.go", "version.go", "wechatsim.go"},
	{"policy.go"},
	{"appservice.go"},
	// The files of yufu dev.
	{"fixtures.go", "tour.go"},
	{"devguard.go"},
	// The service: run, assembled, and its parts.
	{"running.go"},
	{"assemble.go"},
	{"service.go"},
	{"routes.go"},
	{"metrics.go", "validation.go", "webhook.go"},
	{"parts.go"},
	{"reread.go"},
	// The files that commands and the service share.
	{"adminapi.go"},
	{"direct.go"},
	{"sealed.go"},
	{"store.go"},
	{"build.go", "command.go"},
}

// rowOf returns the row of a file, or -1.
func rowOf(file string) int {
	return slices.IndexFunc(fileOrder, func(row []string) bool { return slices.Contains(row, file) })
}

func TestFileOrder(t *testing.T) {
	t.Parallel()
	files := commandFiles(t)
	for _, name := range files {
		if rowOf(name) < 0 {
			t.Errorf("%s is not in the order of files", name)
		}
	}
	for _, row := range fileOrder {
		for _, name := range row {
			if !slices.Contains(files, name) {
				t.Errorf("the order of files names %s, which does not exist", name)
			}
		}
	}
	seen := map[string]bool{}
	for _, u := range usesBetween(t, files) {
		if rowOf(u.from) >= rowOf(u.to) && !seen[u.String()] {
			seen[u.String()] = true
			t.Errorf("%s, against the order of files", u)
		}
	}
}

// use is an identifier of one file in another.
type use struct{ from, what, to string }

func (u use) String() string { return u.from + " uses " + u.what + " of " + u.to }

// commandFiles returns the non-test files of this package.
func commandFiles(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(names, func(name string) bool { return strings.HasSuffix(name, "_test.go") })
}

// usesBetween returns the identifiers of one file that another file uses: functions, types,
// variables, constants, methods and fields.
func usesBetween(t *testing.T, names []string) []use {
	t.Helper()
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	compiled := compiledImports(t)
	config := types.Config{Importer: importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(compiled[path])
	})}
	info := types.Info{Uses: map[*ast.Ident]types.Object{}}
	pkg, err := config.Check("main", fset, files, &info)
	if err != nil {
		t.Fatal(err)
	}
	var uses []use
	for id, object := range info.Uses {
		from, to := fset.Position(id.Pos()).Filename, fset.Position(object.Pos()).Filename
		if object.Pkg() == pkg && from != to {
			uses = append(uses, use{from, object.Name(), to})
		}
	}
	if len(uses) == 0 {
		t.Fatal("this test finds no file that uses another")
	}
	return uses
}

// compiledImports returns the files with the compiled declarations of all imported packages,
// by import path.
func compiledImports(t *testing.T) map[string]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-buildvcs=false", "-deps", "-export", "-json=ImportPath,Export", ".")
	// As the tests of the built program build it, so nothing is compiled twice.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, stderr.String())
	}
	compiled := map[string]string{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct{ ImportPath, Export string }
		if err := d.Decode(&p); err == io.EOF {
			return compiled
		} else if err != nil {
			t.Fatal(err)
		}
		compiled[p.ImportPath] = p.Export
	}
}
