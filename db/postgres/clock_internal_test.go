package postgres

import (
	"regexp"
	"testing"

	"github.com/yufu-auth/yufu/db/storetest"
)

func TestStatementsReadNoClock(t *testing.T) {
	t.Parallel()
	clock := regexp.MustCompile(`(?i)\b(now|clock_timestamp|statement_timestamp|transaction_timestamp|timeofday)\s*\(|\bcurrent_(timestamp|date|time)\b|\blocaltime(stamp)?\b|'(now|today|tomorrow|yesterday)'`)
	storetest.ReadsNoClock(t, clock, statements, nowSQL, fullTimeline.query)
}
