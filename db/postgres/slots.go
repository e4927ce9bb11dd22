package postgres

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// stateTooManyConnections: the server, the database or the role has no
	// connection left.
	stateTooManyConnections = "53300"
	// slotWait bounds the wait for a connection of the pool if the server gives no
	// other. It is shorter than a request may take, so that the client gets the
	// reason.
	slotWait = 5 * time.Second
	// slotPoll is how often a waiting call looks for an idle connection.
	slotPoll = 10 * time.Millisecond
	// slotPause is the pause before the next connection attempt to a full server:
	// each attempt costs it a process.
	slotPause = 250 * time.Millisecond
)

// pool is a [pgxpool.Pool] for a server that may run out of connections. pgx's pool
// grows when all its connections are busy and fails a call if the server refuses. This
// one makes the call wait for a connection to be released.
type pool struct {
	*pgxpool.Pool
	// spare is tried without a wait if this pool has no connection for a call.
	spare *pool
	wait  time.Duration
	// full is the server's last refusal and its time.
	full atomic.Pointer[refusedSlot]
}

// refusedSlot repeats a refusal by the server.
type refusedSlot struct {
	error
	at time.Time
}

func (r *refusedSlot) Unwrap() error { return r.error }

// newPool returns a pool whose connections lead to the target.
func newPool(ctx context.Context, cfg *pgxpool.Config, target *atomic.Pointer[pgx.ConnConfig]) (*pool, error) {
	p := &pool{wait: slotWait}
	cfg.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		*c = *target.Load().Copy()
		if r := p.full.Load(); r != nil && time.Since(r.at) < slotPause {
			return r
		}
		return nil
	}
	var err error
	p.Pool, err = pgxpool.NewWithConfig(ctx, cfg)
	return p, err
}

// noSlot reports whether a call failed because the server gave no connection. In that
// case nothing was sent.
func noSlot(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == stateTooManyConnections
}

// withSlot makes a call that takes a connection. If the server gives none, it repeats
// the call while the pool has connections that may be released.
func withSlot[T any](ctx context.Context, p *pool, call func(*pgxpool.Pool) (T, error)) (T, error) {
	v, err := call(p.Pool)
	if !noSlot(err) {
		return v, err
	}
	p.remember(err)
	if p.spare != nil {
		return withSlot(ctx, p.spare, call)
	}
	waiting, cancel := context.WithTimeout(ctx, p.wait)
	defer cancel()
	poll := time.NewTicker(slotPoll)
	defer poll.Stop()
	for p.holdsConnections() {
		select {
		case <-waiting.Done():
			return v, err
		case <-poll.C:
		}
		if p.Stat().IdleConns() == 0 && time.Since(p.full.Load().at) < slotPause {
			continue
		}
		if v, err = call(p.Pool); !noSlot(err) {
			return v, err
		}
		p.remember(err)
	}
	return v, err
}

// remember stores a refusal by the server, but not a repeated one.
func (p *pool) remember(err error) {
	if repeated := (*refusedSlot)(nil); !errors.As(err, &repeated) {
		p.full.Store(&refusedSlot{err, time.Now()})
	}
}

// holdsConnections reports whether there is a connection to wait for.
func (p *pool) holdsConnections() bool {
	s := p.Stat()
	return s.AcquiredConns()+s.IdleConns() > 0
}

// Acquire, Query, QueryRow and Exec work as those of [pgxpool.Pool].
func (p *pool) Acquire(ctx context.Context) (*pgxpool.Conn, error) {
	return withSlot(ctx, p, func(p *pgxpool.Pool) (*pgxpool.Conn, error) { return p.Acquire(ctx) })
}

func (p *pool) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return withSlot(ctx, p, func(p *pgxpool.Pool) (pgx.Rows, error) {
		return p.Query(ctx, sql, args...)
	})
}

func (p *pool) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	rows, err := p.Query(ctx, sql, args...)
	return row{rows, err}
}

func (p *pool) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return withSlot(ctx, p, func(p *pgxpool.Pool) (pgconn.CommandTag, error) { return p.Exec(ctx, sql, args...) })
}

// row is the first of some rows, or the error of the query.
type row struct {
	rows pgx.Rows
	err  error
}

func (r row) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return pgx.ErrNoRows
	}
	if err := r.rows.Scan(dest...); err != nil {
		return err
	}
	r.rows.Close()
	return r.rows.Err()
}
