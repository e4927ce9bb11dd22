package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

var errTwoServers = errors.New("postgres: connections lead to two writable servers: fence off the old primary; reconnecting")

var errReset = errors.New("postgres: the connection may lead to a replaced server")

// compareTimeout bounds how long a connection of the pool may take to name its
// history. A question is answered without it.
const compareTimeout = time.Second

// reset has both pools, and soon the listener, make new connections, which find the
// server that takes writes now.
func (s *Store) reset() {
	s.resets.Add(1)
	s.pool.Reset()
	s.follow.Reset()
}

// unpinged marks a context in which connections are taken without a ping.
type unpinged struct{}

// shouldPing is pgx's own rule, except where the next statement is as good as a
// ping.
func shouldPing(ctx context.Context, p pgxpool.ShouldPingParams) bool {
	return ctx.Value(unpinged{}) == nil && p.IdleDuration > time.Second
}

// writersHistory returns the name of the history that a connection of the pool leads
// to, or "" when none is free before acquiring ends, or it does not answer.
func (s *Store) writersHistory(acquiring, ctx context.Context, h *history) string {
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
