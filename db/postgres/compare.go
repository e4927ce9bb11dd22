package postgres

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

var errTwoServers = errors.New("postgres: connections lead to two writable servers: fence off the old primary; reconnecting")

var errReset = errors.New("postgres: the connection may lead to a replaced server")

// compareTimeout bounds the wait for a pool connection to name its timeline. After it, a
// query for cutoffs returns without the comparison.
const compareTimeout = time.Second

// compareEvery is how many queries for cutoffs need one comparison while the pool is not
// used.
const compareEvery = 5

// comparison remembers that a connection of the pool and that of the follower led to the
// same server. A connection stays with its server. So while the follower's connection
// names the same timeline and no connection of the pool is used or made, one query in
// [compareEvery] needs a comparison: it finds another connection of the pool that leads
// elsewhere.
type comparison struct {
	mu       sync.Mutex
	timeline string
	uses     int64 // of the pool
	skipped  int   // queries since
}

// due reports whether the next query needs a comparison. uses are those of the pool.
func (c *comparison) due(uses int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.skipped++
	return c.timeline == "" || c.uses != uses || c.skipped >= compareEvery
}

// holds reports whether the timeline is that of the last comparison.
func (c *comparison) holds(timeline string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.timeline == timeline
}

func (c *comparison) record(timeline string, uses int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timeline, c.uses, c.skipped = timeline, uses, 0
}

// poolUses counts the uses of pool connections, and the connections made.
func (s *Store) poolUses() int64 {
	stat := s.pool.Stat()
	return stat.AcquireCount() + stat.NewConnsCount()
}

// reset replaces the connections of both pools and, soon after, the listener's. The new
// connections find the server that accepts writes now.
func (s *Store) reset() {
	s.resets.Add(1)
	s.pool.Reset()
	s.follow.Reset()
}

// unpinged marks a context in which connections are acquired without a ping.
type unpinged struct{}

// shouldPing is pgx's own rule, except if the next statement detects a broken
// connection as well as a ping.
func shouldPing(ctx context.Context, p pgxpool.ShouldPingParams) bool {
	return ctx.Value(unpinged{}) == nil && p.IdleDuration > time.Second
}

// writersTimeline returns the name of the timeline that a connection of the pool leads
// to. It returns "" if no connection is free before acquiring ends, or if the
// connection does not answer.
func (s *Store) writersTimeline(acquiring, ctx context.Context, h *timelineQueries) string {
	c, err := s.pool.Acquire(context.WithValue(acquiring, unpinged{}, true))
	if err != nil {
		return ""
	}
	defer c.Release()
	reading, cancel := context.WithTimeout(ctx, compareTimeout)
	defer cancel()
	var name *string
	if err := c.QueryRow(reading, h.name).Scan(&name); err != nil || name == nil {
		return ""
	}
	return *name
}
