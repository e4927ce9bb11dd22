package storetest

import (
	"io/fs"
	"os"
	"regexp"
	"slices"
	"testing"
)

// ReadsNoClock checks that no statement and no migration of a store reads a clock: the
// time is an argument, so that all statements of a call use the same time. clock
// matches SQL that reads the database's clock; allowed lists the statements that may.
// Call it in the folder that has migrations/.
func ReadsNoClock(t *testing.T, clock *regexp.Regexp, statements []string, allowed ...string) {
	t.Helper()
	for _, sql := range statements {
		if found := clock.FindString(sql); (found != "") != slices.Contains(allowed, sql) {
			t.Errorf("statement reads a clock by %q, want a clock: %t:\n%s", found, found == "", sql)
		}
	}
	for _, sql := range allowed {
		if !slices.Contains(statements, sql) {
			t.Errorf("allowed names a statement that the store does not have:\n%s", sql)
		}
	}
	files, err := fs.Glob(os.DirFS("."), "migrations/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("found %d migrations, error %v", len(files), err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if found := clock.Find(b); found != nil {
			t.Errorf("%s reads a clock by %q", name, found)
		}
	}
}
