package auth

import "time"

// StoredTime returns t as all stores keep it: in UTC, truncated to microseconds.
func StoredTime(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
