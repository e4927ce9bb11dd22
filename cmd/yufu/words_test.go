package main_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// insteadOf maps words that are hard to read to plain ones.
var insteadOf = map[string]string{
	"whoever": "the caller, a client",
	"anew":    "again",
	"he":      "they, the user",
	"his":     "their, the user's",
	"him":     "them, the user",
	"nobody":  "no user, no client",
	"none of": "no",
}

// plainFolders are the folders whose Go files, including tests, have no such word in comments
// and strings. Add a folder after you have cleaned it.
var plainFolders = []string{
	"api",
	"api/admin",
	"api/apitest",
	"api/binding",
	"api/gate",
	"api/oauth",
	"api/web",
	"cmd/yufu",
	"cmd/yufu/e2e",
	"cmd/yufu/internal/datadir",
	"cmd/yufu/internal/health",
	"cmd/yufu/internal/httpd",
	"cmd/yufu/internal/janitor",
	"cmd/yufu/internal/personimport",
	"cmd/yufu/internal/replicas",
	"cmd/yufu/internal/setting",
	"cmd/yufu/interop",
	"db",
	"db/pgtest",
	"db/postgres",
	"db/sqlite",
	"db/storetest",
	"pkg/adminclient",
	"pkg/app",
	"pkg/auth",
	"pkg/bearer",
	"pkg/bearer/bearertest",
	"pkg/bearer/cutoff",
	"pkg/bearer/example",
	"pkg/binding",
	"pkg/binding/bindingtest",
	"pkg/binding/webhook",
	"pkg/cutoffs",
	"pkg/cutoffs/cutoffstest",
	"pkg/keyring",
	"pkg/netreason",
	"pkg/netreason/netreasontest",
	"pkg/person",
	"pkg/platform",
	"pkg/platform/accesstoken",
	"pkg/platform/guard",
	"pkg/platform/wechat",
	"pkg/platform/wechatsim",
	"pkg/seal",
	"pkg/servicekey",
	"pkg/session",
	"pkg/session/sessiontest",
	"pkg/telemetry",
	"pkg/token",
}

var (
	hardWord   = regexp.MustCompile(`(?i)\b(whoever|anew|he|his|him|nobody|none of)\b`)
	unixNobody = regexp.MustCompile("(\\buser (= )?|\\buid |[`\"'])nobody\\b")
)

// hardWords returns a complaint for each hard word in a text that begins at a
// line of a file.
func hardWords(name string, line int, text string) []string {
	var found []string
	for i, s := range strings.Split(text, "\n") {
		s = unixNobody.ReplaceAllString(s, "")
		for _, word := range hardWord.FindAllString(s, -1) {
			found = append(found, fmt.Sprintf("%s:%d: instead of %q write: %s", name, line+i, word, insteadOf[strings.ToLower(word)]))
		}
	}
	return found
}

// hardWordsOfGo returns the complaints about the comments and strings of a Go
// file.
func hardWordsOfGo(t *testing.T, name string, source []byte) []string {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, source, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	check := func(n ast.Node, text string) {
		found = append(found, hardWords(name, files.Position(n.Pos()).Line, text)...)
	}
	for _, group := range file.Comments {
		for _, comment := range group.List {
			check(comment, comment.Text)
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.BasicLit); ok && s.Kind == token.STRING {
			check(s, s.Value)
		}
		return true
	})
	return found
}

func TestPlainWords(t *testing.T) {
	t.Parallel()

	t.Run("in the English documents and in deploy", func(t *testing.T) {
		t.Parallel()
		for _, name := range tracked(t) {
			english := strings.HasSuffix(name, ".md") || strings.HasPrefix(name, "deploy/")
			if !english || strings.HasPrefix(name, "deploy/guide/zh/") {
				continue
			}
			for _, complaint := range hardWords(name, 1, string(read(t, name))) {
				t.Error(complaint)
			}
		}
	})

	t.Run("in the Go files of the clean folders", func(t *testing.T) {
		t.Parallel()
		seen := map[string]bool{}
		for _, name := range tracked(t) {
			folder := path.Dir(name)
			// This file contains the words.
			if !strings.HasSuffix(name, ".go") || !slices.Contains(plainFolders, folder) || name == "cmd/yufu/words_test.go" {
				continue
			}
			seen[folder] = true
			for _, complaint := range hardWordsOfGo(t, name, read(t, name)) {
				t.Error(complaint)
			}
		}
		for _, folder := range plainFolders {
			if !seen[folder] {
				t.Errorf("plainFolders has %s, which has no Go files: remove or rename it", folder)
			}
		}
	})
}

func TestHardWords(t *testing.T) {
	t.Parallel()
	const source = `package p

// Whoever calls it
// tells the heading.
var s = "the user nobody" + "none of them"
`
	want := []string{
		`p.go:3: instead of "Whoever" write: the caller, a client`,
		`p.go:5: instead of "none of" write: no`,
	}
	if got := hardWordsOfGo(t, "p.go", []byte(source)); !slices.Equal(got, want) {
		t.Errorf("hardWordsOfGo() = %q, want %q", got, want)
	}
}
