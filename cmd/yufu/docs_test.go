package main_test

import (
	"bufio"
	"bytes"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/servicekey"
)

// documents returns the tracked Markdown files.
func documents(t *testing.T) []string {
	t.Helper()
	var docs []string
	for _, name := range tracked(t) {
		if strings.HasSuffix(name, ".md") {
			docs = append(docs, name)
		}
	}
	return docs
}

var errorRow = regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([0-9]+) \\| (?:`([a-z_]+)`)? ?\\| ([^|]+) \\| ([^|]+) \\|$")

func TestErrorPages(t *testing.T) {
	t.Parallel()
	// The word on the page for an answer that says how long to wait.
	for page, wait := range map[string]string{"deploy/guide/en/errors.md": "*Wait*", "deploy/guide/zh/errors.md": "等待"} {
		t.Run(page+" has a correct row for every code", func(t *testing.T) {
			t.Parallel()
			rows := map[auth.Code][]string{}
			for _, row := range errorRow.FindAllStringSubmatch(string(read(t, page)), -1) {
				code := auth.Code(row[1])
				if rows[code] != nil {
					t.Errorf("there are two rows for %s", code)
				}
				rows[code] = row
			}
			for _, code := range auth.Codes() {
				row := rows[code]
				if row == nil {
					t.Errorf("there is no row for %s", code)
					continue
				}
				want := web.Responses[code]
				if row[2] != strconv.Itoa(want.Status) {
					t.Errorf("%s: the page says status %s, the server answers %d", code, row[2], want.Status)
				}
				// Codes that only problem documents carry have no OAuth error.
				if row[3] != "" && row[3] != want.OAuth {
					t.Errorf("%s: the page says error %s, the server answers %s", code, row[3], want.OAuth)
				}
				if says := strings.HasPrefix(row[5], wait); says != (want.RetryAfter > 0) {
					t.Errorf("%s: the page says to wait: %t; the server sends Retry-After: %t", code, says, want.RetryAfter > 0)
				}
				delete(rows, code)
			}
			for code := range rows {
				t.Errorf("there is a row for %s, which is not a code", code)
			}
		})
	}
}

var variable = regexp.MustCompile(`YUFU_[A-Z][A-Z_]*[A-Z]`)

// readVariables returns the settings that the program reads, from the env tags
// of its flags.
func readVariables(t *testing.T) map[string]bool {
	t.Helper()
	tag := regexp.MustCompile(`env:"(YUFU_[A-Z_]+)"`)
	settings := map[string]bool{}
	for _, name := range tracked(t) {
		if path.Dir(name) != "cmd/yufu/internal/setting" || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, m := range tag.FindAllSubmatch(read(t, name), -1) {
			settings[string(m[1])] = true
		}
	}
	if len(settings) == 0 {
		t.Fatal("no setting has an env tag")
	}
	return settings
}

// testVariables are read by db/pgtest only.
var testVariables = map[string]bool{"YUFU_TEST_POSTGRES": true, "YUFU_PGBIN": true}

func TestScopePages(t *testing.T) {
	t.Parallel()
	scopes := strings.Fields(servicekey.ScopeText(servicekey.Scopes()))
	row := regexp.MustCompile("(?m)^\\| `(" + strings.Join(scopes, "|") + ")` \\|")
	for _, page := range []string{"deploy/guide/en/operations.md", "deploy/guide/zh/operations.md"} {
		var rows []string
		for _, m := range row.FindAllSubmatch(read(t, page), -1) {
			rows = append(rows, string(m[1]))
		}
		if !slices.Equal(rows, scopes) {
			t.Errorf("%s has rows for the scopes %q, want %q", page, rows, scopes)
		}
	}
}

const contributing = ".github/CONTRIBUTING.md"

// codePath matches a path in backticks.
var codePath = regexp.MustCompile("`((?:[a-z]+/|\\.ci/)[A-Za-z0-9_./-]+)`")

func TestContributing(t *testing.T) {
	t.Parallel()

	t.Run("a document names only files that exist", func(t *testing.T) {
		t.Parallel()
		paths := codePath.FindAllStringSubmatch(string(read(t, contributing)), -1)
		if len(paths) < 40 {
			t.Errorf("the page names %d paths, want 40 or more", len(paths))
		}
		for _, m := range paths {
			if m[1] == "bin/yufu" { // made by make build
				continue
			}
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
				t.Errorf("the page names %s: %v", m[1], err)
			}
		}
	})
}

func TestSettings(t *testing.T) {
	t.Parallel()

	t.Run("settings that documents name exist", func(t *testing.T) {
		t.Parallel()
		settings := readVariables(t)
		for _, name := range append(documents(t), "deploy/Dockerfile", "deploy/compose.yaml", "api/openapi.yaml",
			"deploy/nginx/yufu.conf", "deploy/caddy/Caddyfile", "deploy/haproxy/haproxy.cfg", "deploy/haproxy/reload-keys.sh") {
			for _, v := range variable.FindAllString(string(read(t, name)), -1) {
				if !settings[v] && !(name == contributing && testVariables[v]) {
					t.Errorf("%s names %s, which is not a setting", name, v)
				}
			}
		}
	})

	t.Run("settings have no name that Kubernetes injects", func(t *testing.T) {
		t.Parallel()
		for v := range readVariables(t) {
			if setting.CheckEnviron([]string{v + "=tcp://10.96.0.7:80"}, nil) == nil {
				t.Errorf("%s has the name of a variable that Kubernetes injects", v)
			}
		}
	})

	for _, page := range []string{"deploy/guide/en/settings.md", "deploy/guide/zh/settings.md"} {
		t.Run("all settings are in "+page, func(t *testing.T) {
			t.Parallel()
			text := string(read(t, page))
			for _, v := range slices.Sorted(maps.Keys(readVariables(t))) {
				if !strings.Contains(text, "| `"+v+"` |") {
					t.Errorf("%s has no row for %s", page, v)
				}
			}
		})
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)]+)\)`)
	heading = regexp.MustCompile(`^#+ +(.+)$`)
)

// anchors returns the fragments that GitHub makes for a document's headings.
func anchors(t *testing.T, name string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	scanner := bufio.NewScanner(bytes.NewReader(read(t, name)))
	fenced := false
	for scanner.Scan() {
		line := scanner.Text()
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		if m := heading.FindStringSubmatch(line); m != nil && !fenced {
			text := strings.Map(func(r rune) rune {
				if strings.ContainsRune("`,.:;?!()/…，。：；？！（）、“”", r) {
					return -1
				}
				return r
			}, strings.ToLower(m[1]))
			found[strings.ReplaceAll(text, " ", "-")] = true
		}
	}
	return found
}

func TestLinks(t *testing.T) {
	t.Parallel()
	for _, doc := range documents(t) {
		t.Run(doc+" has links to existing files and headings", func(t *testing.T) {
			t.Parallel()
			for _, m := range link.FindAllStringSubmatch(string(read(t, doc)), -1) {
				target, fragment, _ := strings.Cut(m[1], "#")
				if strings.Contains(target, "://") {
					continue
				}
				to := doc
				if target != "" {
					to = path.Join(path.Dir(doc), target)
				}
				if _, err := os.Stat(filepath.Join(root, to)); err != nil {
					t.Errorf("the link %s names a file that does not exist", m[1])
					continue
				}
				if fragment != "" && !anchors(t, to)[fragment] {
					t.Errorf("the link %s names a heading that does not exist", m[1])
				}
			}
		})
	}
}

func TestREADME(t *testing.T) {
	t.Parallel()

	t.Run("links to the Chinese guide in its second line", func(t *testing.T) {
		t.Parallel()
		lines := strings.SplitN(string(read(t, "README.md")), "\n", 3)
		if len(lines) < 2 || !strings.Contains(lines[1], "(deploy/guide/zh/quickstart.md)") {
			t.Errorf("the first lines are %q, want a link to the Chinese guide in the second", lines)
		}
	})
}
