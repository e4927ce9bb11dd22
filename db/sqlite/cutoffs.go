package sqlite

import (
	"context"
	"database/sql"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
)

// notifier wakes the listeners of this process after a cutoff was written or the keys
// changed. Followers find changes by other processes when they poll.
type notifier struct {
	mu      sync.Mutex
	changed chan struct{}
}

func newNotifier() *notifier { return &notifier{changed: make(chan struct{})} }

func (b *notifier) notify() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.changed)
	b.changed = make(chan struct{})
}

// wait returns a channel that the next call of notify closes.
func (b *notifier) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

// cutoffsSQL returns at least one row, which has the greatest id that was ever
// committed, even if its row has been deleted.
var cutoffsSQL = statement(`
select t.deployment, cast(round(unixepoch('subsec') * 1000) as integer), t.last,
  case when c.id > t.first then null else t.keys end, case when c.id > t.first then null else t.apps end,
  c.id, c.kind, c.session_id, c.ver, coalesce(c.appid, c.session_appid), c.epoch, c.kid, c.expires_at
from (
  select (select id from deployment) as deployment, (select min(id) from cutoffs where id > ?1) as first, (` + keysVersion + `) as keys, (` + appsVersion + `) as apps,
    coalesce((select seq from sqlite_sequence where name = 'cutoffs'), 0) as last
) t
left join (
  select id, kind, session_id, session_appid, ver, appid, epoch, kid, expires_at
  from cutoffs where id > ?1 order by id limit ?2
) c
order by c.id`)

// Cutoffs implements [cutoffs.Store]. The timeline belongs to the open file: a copy
// that replaces the file has another one when it is opened. With the claim, Cutoffs
// notes the greatest id that followers can have seen.
func (s *Store) Cutoffs(ctx context.Context, after int64, limit int) (cutoffs.Batch, error) {
	b := cutoffs.Batch{Timeline: s.timeline}
	rows, err := s.r.QueryContext(ctx, cutoffsSQL, after, limit)
	if err != nil {
		return cutoffs.Batch{}, translate(ctx, "Cutoffs", err)
	}
	b.Cutoffs, err = collect(rows, func(rows *sql.Rows) (auth.Cutoff, error) { return scanCutoff(rows, &b) })
	if err != nil {
		return cutoffs.Batch{}, translate(ctx, "Cutoffs", err)
	}
	if b.Cutoffs[0].ID == 0 {
		b.Cutoffs = nil // the one row of an empty batch
	}
	if s.noted != nil {
		if err := s.noted.record(b.Last); err != nil {
			return cutoffs.Batch{}, err
		}
	}
	return b, nil
}

func scanCutoff(rows *sql.Rows, b *cutoffs.Batch) (auth.Cutoff, error) {
	var (
		c              auth.Cutoff
		session        uuid.NullUUID
		kind           sql.NullString
		appID, kid     sql.NullString
		keys, apps     sql.NullString
		id, ver, epoch sql.NullInt64
		now            int64
	)
	err := rows.Scan(&b.Deployment, &now, &b.Last, &keys, &apps, &id, &kind, &session, &ver, &appID, &epoch, &kid, into(&c.ExpiresAt))
	b.Now = time.UnixMilli(now).UTC()
	if keys.Valid { // in the first row
		b.Keys, b.Apps = keys.String, apps.String
	}
	c.ID, c.Kind, c.Session = id.Int64, auth.CutoffKind(kind.String), session.UUID
	c.Ver, c.Epoch, c.AppID, c.KID = ver.Int64, epoch.Int64, appID.String, kid.String
	return c, err
}

// Listen implements [cutoffs.Store]. It hears of commits of this process only.
func (s *Store) Listen(ctx context.Context, wake func()) error {
	for {
		rung := s.cutoffNotifier.wait()
		wake()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-rung:
		}
	}
}
