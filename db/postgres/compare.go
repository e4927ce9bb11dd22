package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

var errTwoServers = errors.New("postgres: connections lead to two writable servers: fence off the old primary; reconnecting")

var errReset = errors.New("postgres: the connection may lead to a replaced server")

// compareTimeout bounds the wait for a pool connection to name its timeline. After it, a
// query for cutoffs returns without the comparison.
const compareTimeout = time.Second

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
