package main_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
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

var (
	// plainText matches the files of which every line is checked. Of Go files it is the
	// comments and strings.
	plainText  = regexp.MustCompile(`^deploy/|^\.ci/|^Makefile$|\.(md|sql|yaml|ts|mjs|js)$`)
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
	for _, name := range tracked(t) {
		switch {
		case strings.HasPrefix(name, "deploy/guide/zh/"), strings.Contains(name, "/miniprogram_npm/"), name == "cmd/yufu/words_test.go":
		case strings.HasSuffix(name, ".go"):
			for _, complaint := range hardWordsOfGo(t, name, read(t, name)) {
				t.Error(complaint)
			}
		case plainText.MatchString(name):
			for _, complaint := range hardWords(name, 1, string(read(t, name))) {
				t.Error(complaint)
			}
		}
	}
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
