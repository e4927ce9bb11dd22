package auth

import "time"

// StoredTime returns t as every store keeps it: in UTC, truncated to microseconds.
func StoredTime(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
