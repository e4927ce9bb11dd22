package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
)

const (
	// listenSilence is the time after which a silent listening connection is
	// pinged. listenPing bounds the ping.
	listenSilence = 5 * time.Second
	listenPing    = 3 * time.Second
	// listenStart bounds connecting and starting to listen. The other end may vanish
	// during that, too.
	listenStart = 10 * time.Second
)

// Cutoffs implements [cutoffs.Store]. It has connections of its own, usually one.
// So it does not wait when the pool is busy, and a network that drops packets costs
// it one timeout instead of one for each connection of the pool.
//
// It commits, so it returns only when the synchronous standby has confirmed that
// this server is the primary. Meanwhile a connection of the pool names its timeline,
// unless nothing has used the pool since it last did. If the two differ, all connections
// are made again.
//
// Parts of the timeline's name that the server refuses to read are left out, see
// [Store.HistoryWithout].
func (s *Store) Cutoffs(ctx context.Context, after int64, limit int) (cutoffs.Batch, error) {
	var b cutoffs.Batch
	err := s.withHistory(ctx, func([]string) (err error) {
		b, err = s.compared(ctx, after, limit)
		return err
	})
	return b, err
}

// compared reads cutoffs and, if it is time for [comparison.due], the timeline of a pool
// connection at the same time. The two timelines must be equal.
func (s *Store) compared(ctx context.Context, after int64, limit int) (cutoffs.Batch, error) {
	h := s.timeline.Load()
	uses := s.poolUses()
	if !s.comparison.due(uses) {
		b, err := s.cutoffs(ctx, h, after, limit)
		if err != nil || s.comparison.holds(b.Timeline) {
			return b, err
		}
	}
	acquiring, answered := context.WithCancel(ctx)
	writers := make(chan string, 1)
	go func() { writers <- s.writersTimeline(acquiring, ctx, h) }()
	b, err := s.cutoffs(ctx, h, after, limit)
	answered()
	name := <-writers
	if err == nil && name != "" && name != b.Timeline {
		s.reset()
		return cutoffs.Batch{}, &auth.Error{Code: auth.StorageUnavailable, Err: errTwoServers}
	}
	if err == nil && name != "" {
		s.comparison.record(name, uses+1) // with the use above
	}
	return b, err
}

func (s *Store) cutoffs(ctx context.Context, h *timelineQueries, after int64, limit int) (cutoffs.Batch, error) {
	var b cutoffs.Batch
	c, err := s.follow.Acquire(ctx)
	if err == nil {
		defer c.Release()
		err = confirmed(c, func(c *pgxpool.Conn) error {
			rows, err := c.Query(ctx, h.query, after, limit)
			if err != nil {
				return err
			}
			b, err = scanCutoffs(rows, limit)
			return err
		})
	}
	if err != nil {
		return cutoffs.Batch{}, s.fail(ctx, "Cutoffs", err)
	}
	if b.Timeline == "" {
		s.reset()
		return cutoffs.Batch{}, &auth.Error{Code: auth.StorageUnavailable, Err: errReadOnly}
	}
	return b, nil
}

// errDisorder means that an answer of [cutoffsSQL] is not in order.
var errDisorder = errors.New("postgres: the cutoffs are not in the order of their ids")

// batchColumns is how many columns of [cutoffsSQL] are about the batch.
const batchColumns = 6

// scanCutoffs reads an answer of [cutoffsSQL]. Its first row has the columns about the
// batch, and if that is empty, it has no cutoff.
func scanCutoffs(rows pgx.Rows, limit int) (b cutoffs.Batch, err error) {
	defer rows.Close()
	var c auth.Cutoff
	row := []any{
		(*zeronull.Text)(&b.Timeline), (*zeronull.UUID)(&b.Deployment), (*zeronull.Timestamptz)(&b.Now),
		(*zeronull.Int8)(&b.Last), (*zeronull.Text)(&b.Keys), (*zeronull.Text)(&b.Apps),
		(*zeronull.Int8)(&c.ID), (*zeronull.Text)(&c.Kind), (*zeronull.UUID)(&c.Session), (*zeronull.Int8)(&c.Ver),
		(*zeronull.Text)(&c.AppID), (*zeronull.Int8)(&c.Epoch), (*zeronull.Text)(&c.KID), (*zeronull.Timestamptz)(&c.ExpiresAt),
	}
	for last := int64(0); rows.Next(); last = c.ID {
		if err := rows.Scan(row...); err != nil {
			return b, err
		}
		switch {
		case c.ID == 0:
			continue
		case c.ID <= last:
			return b, errDisorder
		case last == 0:
			clear(row[:batchColumns]) // pgx skips them
			b.Cutoffs = make([]auth.Cutoff, 0, max(min(int64(limit), b.Last-c.ID+1), 1))
		}
		c.ExpiresAt = c.ExpiresAt.UTC()
		b.Cutoffs = append(b.Cutoffs, c)
	}
	b.Now = b.Now.UTC()
	return b, rows.Err()
}

// Listen implements [cutoffs.Store]. It has a connection of its own, because it
// would occupy a connection of the pool permanently.
func (s *Store) Listen(ctx context.Context, wake func()) error {
	resets := s.resets.Load()
	starting, cancel := context.WithTimeout(ctx, listenStart)
	defer cancel()
	conn, err := pgx.ConnectConfig(starting, s.target.Load().Copy())
	if err != nil {
		return s.fail(ctx, "Listen", err)
	}
	defer closeConn(ctx, conn)
	if _, err := conn.Exec(starting, "listen "+cutoffChannel); err != nil {
		return s.fail(ctx, "Listen", err)
	}
	// Finds what was committed before the connection listened.
	wake()
	for {
		waiting, cancel := context.WithTimeout(ctx, listenSilence)
		_, err := conn.WaitForNotification(waiting)
		silent := waiting.Err() != nil
		cancel()
		switch {
		case err == nil:
			wake()
		case ctx.Err() != nil:
			return ctx.Err()
		case silent && s.resets.Load() != resets:
			return &auth.Error{Code: auth.StorageUnavailable, Err: errReset}
		case silent:
			// A connection whose other end vanished without closing is as silent as
			// an idle one. Only a ping tells them apart.
			asking, cancel := context.WithTimeout(ctx, listenPing)
			err := conn.Ping(asking)
			cancel()
			if err != nil {
				return s.fail(ctx, "Listen", err)
			}
		default:
			return s.fail(ctx, "Listen", err)
		}
	}
}
