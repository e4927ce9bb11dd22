package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
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
// this server is the primary. Meanwhile a connection of the pool names its timeline.
// If the two differ, all connections are made again.
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

// compared reads cutoffs and the timeline of a pool connection at the same time. The two
// timelines must be equal.
func (s *Store) compared(ctx context.Context, after int64, limit int) (cutoffs.Batch, error) {
	h := s.timeline.Load()
	acquiring, answered := context.WithCancel(ctx)
	writers := make(chan string, 1)
	go func() { writers <- s.writersTimeline(acquiring, ctx, h) }()
	b, err := s.cutoffs(ctx, h, after, limit)
	answered()
	if name := <-writers; err == nil && name != "" && name != b.Timeline {
		s.reset()
		return cutoffs.Batch{}, &auth.Error{Code: auth.StorageUnavailable, Err: errTwoServers}
	}
	return b, err
}

func (s *Store) cutoffs(ctx context.Context, h *timelineQueries, after int64, limit int) (cutoffs.Batch, error) {
	var (
		b        cutoffs.Batch
		timeline *string
	)
	c, err := s.follow.Acquire(ctx)
	if err == nil {
		defer c.Release()
		err = confirmed(c, func(c *pgxpool.Conn) error {
			rows, err := c.Query(ctx, h.query, after, limit)
			if err != nil {
				return err
			}
			b.Cutoffs, err = pgx.AppendRows([]auth.Cutoff(nil), rows, func(row pgx.CollectableRow) (auth.Cutoff, error) {
				return scanCutoff(row, &timeline, &b)
			})
			return err
		})
	}
	if err != nil {
		return cutoffs.Batch{}, s.fail(ctx, "Cutoffs", err)
	}
	if timeline == nil {
		s.reset()
		return cutoffs.Batch{}, &auth.Error{Code: auth.StorageUnavailable, Err: errReadOnly}
	}
	b.Timeline, b.Now = *timeline, b.Now.UTC()
	if b.Cutoffs[0].ID == 0 {
		b.Cutoffs = nil // the one row of an empty batch
	}
	return b, nil
}

func scanCutoff(row pgx.CollectableRow, timeline **string, b *cutoffs.Batch) (auth.Cutoff, error) {
	var (
		c              auth.Cutoff
		session        *uuid.UUID
		id, ver, epoch *int64
		kind           *string
		appID, kid     *string
		expires        *time.Time
	)
	err := row.Scan(timeline, &b.Deployment, &b.Now, &b.Last, &id, &kind, &session, &ver, &appID, &epoch, &kid, &expires)
	if err != nil || id == nil {
		return c, err
	}
	c.ID, c.Kind, c.ExpiresAt = *id, auth.CutoffKind(*kind), timeOf(expires)
	if session != nil {
		c.Session = *session
	}
	if ver != nil {
		c.Ver = *ver
	}
	if epoch != nil {
		c.Epoch = *epoch
	}
	if appID != nil {
		c.AppID = *appID
	}
	if kid != nil {
		c.KID = *kid
	}
	return c, nil
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
