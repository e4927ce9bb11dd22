package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/shard"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

func limitedParams(limit int) session.ExchangeParams {
	x := exchangeParams()
	x.MaxSessions = limit
	return x
}

// live returns the number of sessions that have not ended; none expires in these tests.
func (b *bed) live() int {
	b.t.Helper()
	return b.number(b.raw, `select count(*) from sessions where ended_at is null`)
}

func (b *bed) endReason(id uuid.UUID) string {
	b.t.Helper()
	var reason *string
	if err := b.raw.QueryRow(`select end_reason from sessions where id = $1`, id).Scan(&reason); err != nil {
		b.t.Fatal(err)
	}
	if reason == nil {
		return ""
	}
	return *reason
}

func TestSessionLimitBesideAnotherTransaction(t *testing.T) {
	t.Parallel()
	t.Run("a log-in that waits for another counts its session", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		first := b.exchange()
		// As a log-in on another replica: the identity, then the session.
		other := shardtest.NewIDBeside(first.ID)
		tx := b.begin()
		b.exec(tx, `update identities set last_login_at = $2 where uuid = $1`, first.Identity, now)
		b.exec(tx, `insert into sessions (id, shard, identity_uuid, appid, ver, epoch, generation, rotated_at, started_at, idle_expires_at, expires_at)
select $1, shard, identity_uuid, appid, ver, epoch, generation, rotated_at, started_at, idle_expires_at, expires_at from sessions`, other)
		exchanged := b.startExchange(limitedParams(2))
		b.untilWaiting(1, row)
		b.commit(tx)
		r := <-exchanged
		if r.err != nil {
			t.Fatal(r.err)
		}
		if got := b.endReason(first.ID); got != string(auth.EndLimit) || b.live() != 2 {
			t.Errorf("end reason of the first = %q, %d live; want session_limit, 2", got, b.live())
		}
	})
	t.Run("the identity is locked before the surplus and the cutoffs after it", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		tx := b.begin()
		b.exec(tx, `select from sessions where id = $1 for update`, s.ID)
		exchanged := b.startExchange(limitedParams(1))
		b.untilWaiting(1, row)
		beside := b.begin()
		if _, err := beside.ExecContext(t.Context(), `select from identities where uuid = $1 for update nowait`, s.Identity); err == nil {
			t.Error("the identity is not locked")
		}
		if n := b.number(b.raw, `select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())`); n != 0 {
			t.Error("a transaction that waits for a session delays the cutoffs")
		}
		b.commit(tx)
		b.succeeds(<-exchanged)
		if got := b.endReason(s.ID); got != string(auth.EndLimit) || b.live() != 1 {
			t.Errorf("end reason = %q, %d live; want session_limit, 1", got, b.live())
		}
	})
	t.Run("the surplus is locked in the order of its ids", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		// The smaller id comes after the greater one in the table.
		smaller := exchangeParams()
		greater := b.exchange()
		if _, err := b.store.Exchange(t.Context(), smaller); err != nil {
			t.Fatal(err)
		}
		tx := b.begin()
		b.exec(tx, `select from sessions where id = $1 for update`, smaller.NewSession)
		exchanged := b.startExchange(limitedParams(1))
		b.untilWaiting(1, row)
		b.exec(tx, `select from sessions where id = $1 for update nowait`, greater.ID)
		b.commit(tx)
		b.succeeds(<-exchanged)
		if n := b.live(); n != 1 {
			t.Errorf("%d live sessions, want 1", n)
		}
	})
	t.Run("a log-in cancelled before the surplus has ended writes nothing", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		s := b.exchange()
		before := b.dump()
		tx := b.begin()
		b.exec(tx, `select from sessions where id = $1 for update`, s.ID)
		ctx, cancel := context.WithCancel(t.Context())
		exchanged := start(func() (session.Granted, error) { return b.store.Exchange(ctx, limitedParams(1)) })
		b.untilWaiting(1, row)
		cancel()
		if r := <-exchanged; r.err != context.Canceled || r.granted.Session.ID != uuid.Nil { //nolint:errorlint // as it is, not wrapped
			t.Errorf("Exchange() = session %s, error %v; want no session and unwrapped context.Canceled", r.granted.Session.ID, r.err)
		}
		b.untilWaiting(0, row)
		b.commit(tx)
		if diff := cmp.Diff(before, b.dump()); diff != "" {
			t.Errorf("the cancelled call changed rows:\n%s", diff)
		}
	})
}

// between runs a function once, before the first transaction begins: after the statements
// that found too many sessions and before the transaction that ends some.
type between struct {
	once sync.Once
	fn   func()
}

func (b *between) TraceBatchStart(ctx context.Context, _ *pgx.Conn, s pgx.TraceBatchStartData) context.Context {
	if strings.HasPrefix(s.Batch.QueuedQueries[0].SQL, "begin") {
		b.once.Do(b.fn)
	}
	return ctx
}

func (*between) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (*between) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// A tracer must have these.
func (*between) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (*between) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestChangesDuringExchange(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		meanwhile func(b *bed, first, second auth.Session)
		want      error
		live      int
		// End reasons of the first and the second session.
		first, second string
	}{
		"nothing": {
			func(*bed, auth.Session, auth.Session) {},
			nil, 2, "session_limit", "",
		},
		"a ban": {
			func(b *bed, first, _ auth.Session) {
				b.exec(b.raw, `update identities set disabled_at = $2 where uuid = $1`, first.Identity, now)
			},
			auth.IdentityDisabled, 2, "", "",
		},
		"the end of the app": {
			func(b *bed, _, _ auth.Session) { b.exec(b.raw, `update apps set disabled_at = $1`, now) },
			auth.AppDisabled, 2, "", "",
		},
		"a log-out": {
			func(b *bed, _, second auth.Session) {
				if err := b.store.End(b.t.Context(), endParams(second.ID)); err != nil {
					b.t.Error(err)
				}
			},
			nil, 2, "", "logout",
		},
		"another log-in": {
			func(b *bed, _, _ auth.Session) { b.exchange() },
			nil, 2, "session_limit", "session_limit",
		},
		"another log-in at the limit": {
			func(b *bed, _, _ auth.Session) {
				if _, err := b.store.Exchange(b.t.Context(), limitedParams(2)); err != nil {
					b.t.Error(err)
				}
			},
			nil, 2, "session_limit", "session_limit",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := migrated.New(t)
			b := &bed{t: t, store: openStore(t, dsn), raw: openRaw(t, dsn)}
			b.addApp()
			first, second := b.exchange(), b.exchange()
			store := openStore(t, dsn, postgres.WithTracer(&between{fn: func() { c.meanwhile(b, first, second) }}))
			x := limitedParams(2)
			x.Now = now.Add(time.Second)
			g, err := store.Exchange(t.Context(), x)
			if !errors.Is(err, c.want) || (err == nil) != (g.Session.ID == x.NewSession) {
				t.Errorf("Exchange() = session %s, error %v; want %v", g.Session.ID, err, c.want)
			}
			if b.live() != c.live || b.endReason(first.ID) != c.first || b.endReason(second.ID) != c.second {
				t.Errorf("%d live sessions, end reasons %q and %q; want %d, %q, %q",
					b.live(), b.endReason(first.ID), b.endReason(second.ID), c.live, c.first, c.second)
			}
			ended := b.number(b.raw, `select count(*) from sessions where ended_at is not null`)
			if n := b.number(b.raw, `select count(*) from cutoffs`); n != ended {
				t.Errorf("%d cutoffs for %d ended sessions", n, ended)
			}
		})
	}
}

// TestExchangeReadsNoEndedSessions checks that the cost of a log-in does not grow with
// the number of ended sessions.
func TestExchangeReadsNoEndedSessions(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	s := b.exchange()
	b.exec(b.raw, `
insert into sessions (id, shard, identity_uuid, appid, ver, epoch, generation, rotated_at, started_at, idle_expires_at, expires_at, ended_at, end_reason)
select gen_random_uuid(), shard, identity_uuid, appid, ver, epoch, generation, rotated_at, started_at, idle_expires_at, expires_at, started_at, 'logout'
from sessions, generate_series(1, 5000)`)
	b.exec(b.raw, `analyze sessions`)
	var start string
	for _, sql := range postgres.Statements() {
		if strings.Contains(sql, "too_many") {
			start = sql
		}
	}
	conn, err := b.raw.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	b.exec(conn, `set plan_cache_mode = force_generic_plan`)
	b.exec(conn, `prepare start as `+start)
	rows, err := conn.QueryContext(t.Context(), `explain execute start ('`+now.Format(time.RFC3339)+`', '`+appID+`', 'o-1', 50, '`+
		shardtest.NewIDBeside(s.ID).String()+`', '', 1, 1, '`+s.ExpiresAt.Format(time.RFC3339)+`', '`+s.ExpiresAt.Format(time.RFC3339)+`', 'openid', `+fmt.Sprint(shard.Of(s.ID))+`)`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var plan strings.Builder
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		plan.WriteString(line + "\n")
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(plan.String(), "Index Cond: ((identity_uuid = i.uuid) AND (ended_at IS NULL))") {
		t.Errorf("the plan reads ended sessions:\n%s", plan.String())
	}
}
