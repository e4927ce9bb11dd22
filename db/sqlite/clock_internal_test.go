package sqlite

import (
	"regexp"
	"testing"

	"github.com/yufu-auth/yufu/db/storetest"
)

func TestStatementsReadNoClock(t *testing.T) {
	t.Parallel()
	clock := regexp.MustCompile(`(?i)\b(date|time|datetime|julianday|unixepoch|strftime|timediff)\s*\(|\bcurrent_(timestamp|date|time)\b|'now'`)
	storetest.ReadsNoClock(t, clock, statements, nowSQL, cutoffsSQL)
}
