package postgres

import (
	"io/fs"
	"os"
	"regexp"
	"testing"
)

// readsClock finds what reads the server's clock.
var readsClock = regexp.MustCompile(`(?i)\b(now|clock_timestamp|statement_timestamp|transaction_timestamp|timeofday)\s*\(|\bcurrent_(timestamp|date|time)\b|\blocaltime(stamp)?\b|'(now|today|tomorrow|yesterday)'`)

// The time is an argument, so that all replicas and all statements go by one clock.
func TestStatementsReadNoClock(t *testing.T) {
	t.Parallel()
	asksForIt := map[string]bool{nowSQL: true, fullHistory.question: true}
	for _, sql := range statements {
		if found := readsClock.FindString(sql); (found != "") != asksForIt[sql] {
			t.Errorf("reads a clock by %q, want %t:\n%s", found, asksForIt[sql], sql)
		}
	}
	for sql := range asksForIt {
		if !readsClock.MatchString(sql) {
			t.Errorf("is not found to read a clock:\n%s", sql)
		}
	}
	files, err := fs.Glob(os.DirFS("migrations"), "*.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d migrations, %v", len(files), err)
	}
	for _, name := range files {
		b, err := os.ReadFile("migrations/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if found := readsClock.Find(b); found != nil {
			t.Errorf("%s reads a clock by %q", name, found)
		}
	}
}
