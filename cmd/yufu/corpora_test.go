package main_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"strings"
	"testing"
)

// TestFuzzTargets checks that every fuzz target has chosen inputs to begin with: files
// committed below testdata/fuzz, or calls of Add. Without such inputs, a run of a few seconds
// never gets past the first check.
func TestFuzzTargets(t *testing.T) {
	t.Parallel()
	files := tracked(t)
	corpora := map[string]bool{}
	for _, name := range files {
		if strings.Contains(name, "/testdata/fuzz/") {
			corpora[path.Dir(name)] = true
		}
	}
	targets := map[string]bool{}
	for _, name := range files {
		if !strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, read(t, name), parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || !strings.HasPrefix(fn.Name.Name, "Fuzz") {
				continue
			}
			corpus := path.Join(path.Dir(name), "testdata/fuzz", fn.Name.Name)
			targets[corpus] = true
			if !corpora[corpus] && !adds(fn.Body) {
				t.Errorf("%s: %s has no input to begin with, neither in %s nor by Add", name, fn.Name.Name, corpus)
			}
		}
	}
	if len(targets) < 20 {
		t.Errorf("there are %d fuzz targets, want 20 or more", len(targets))
	}
	for corpus := range corpora {
		if !targets[corpus] {
			t.Errorf("%s belongs to no fuzz target, so go test ignores it", corpus)
		}
	}
}

// adds reports whether a method named Add is called anywhere in the body.
func adds(body *ast.BlockStmt) (found bool) {
	ast.Inspect(body, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if sel, ok := call.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Add" {
				found = true
			}
		}
		return !found
	})
	return found
}
