package postgres_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/shard"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

// sizesVariable names a variable with numbers of sessions, separated by spaces.
const sizesVariable = "YUFU_BENCH_SESSIONS"

// BenchmarkSize measures what a request costs in a database with so many sessions, each
// of another user. A cost that grows with the number is a defect, except that of counting
// an app's sessions, which a revocation of the app does for at most a second.
func BenchmarkSize(b *testing.B) {
	sizes := os.Getenv(sizesVariable)
	if sizes == "" {
		sizes = "1000"
	}
	for _, size := range strings.Fields(sizes) {
		n, err := strconv.Atoi(size)
		if err != nil {
			b.Fatalf("%s: %v", sizesVariable, err)
		}
		b.Run(size+" sessions", func(b *testing.B) { benchSize(b, n) })
	}
}

// sized is a database with n users who have a session each.
type sized struct {
	*postgres.Store
	n int
}

// sizedID returns the id of the session of user i. The same bits are the user's uuid.
func sizedID(i int) uuid.UUID {
	return uuid.MustParse(fmt.Sprintf("%012x70008000%012x", i, i%shard.Count))
}

func benchSize(b *testing.B, n int) {
	dsn := pgtest.Empty(b)
	s := sized{openStore(b, dsn), n}
	if err := s.Migrate(b.Context(), shardtest.Sealed); err != nil {
		b.Fatal(err)
	}
	if err := partition(b.Context(), dsn); err != nil {
		b.Fatal(err)
	}
	raw := openRaw(b, dsn)
	exec := func(query string, args ...any) {
		b.Helper()
		if _, err := raw.ExecContext(b.Context(), query, args...); err != nil {
			b.Fatal(err)
		}
	}
	exec(`insert into apps (appid, platform, sealed_credentials, created_at, updated_at) values ($1, 'wechat', '{}', $2, $2)`, appID, now)
	const id = `(lpad(to_hex(i), 12, '0') || '70008000' || lpad(to_hex(i % 1024), 12, '0'))::uuid`
	exec(`
insert into identities (uuid, shard, appid, subject_kind, subject, sealed_session_key, created_at, last_login_at)
select `+id+`, i % 1024, $1, 'openid', 'o-' || i, repeat('k', 64)::bytea, $2, $2 from generate_series(0, $3::int - 1) i`, appID, now, n)
	exec(`
insert into sessions (id, shard, identity_uuid, appid, ver, epoch, generation, rotated_at, started_at, idle_expires_at, expires_at)
select `+id+`, i % 1024, `+id+`, $1, 1, 0, 1, $2, $2, $3, $3 from generate_series(0, $4::int - 1) i`, appID, now, now.Add(idle), n)
	exec(`vacuum analyze`)

	// Each step is far from the one before, and all users come once before any comes again.
	const step = 7919
	at := func(i int) int { return i * step % n }
	rotations := map[int]uint32{}
	turns := 0
	for _, c := range []struct {
		name string
		do   func(i int) error
	}{
		{"refresh", func(int) error {
			user := at(turns)
			turns++
			rotations[user]++
			_, err := s.Refresh(b.Context(), refreshParams(sizedID(user), rotations[user]))
			return err
		}},
		{"log-in", func(i int) error {
			id := shardtest.NewIDBeside(sizedID(at(i)))
			_, err := s.Exchange(b.Context(), session.ExchangeParams{
				AppID: appID, Account: auth.OpenIDAccount(fmt.Sprint("o-", at(i))), SealedSessionKey: make([]byte, 64), NewIdentity: id, NewSession: id,
				Now: now, IdleTTL: idle, MaxTTL: idle, MaxSessions: session.DefaultMaxSessions,
			})
			return err
		}},
		{"log-out", func(i int) error { return s.End(b.Context(), endParams(sizedID(at(i)))) }},
		{"janitor without work", func(int) error {
			_, err := s.DeleteExpired(b.Context(), now, now, 1000)
			return err
		}},
		{"revocation of the app", func(int) error {
			_, err := s.Revoke(b.Context(), revokeParams(session.Target{AppID: appID}))
			return err
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			i := 0
			for b.Loop() {
				if err := c.do(i); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
	b.Run("janitor with 1000 expired sessions", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			exec(`
insert into sessions (id, shard, identity_uuid, appid, ver, epoch, generation, rotated_at, started_at, idle_expires_at, expires_at)
select overlay(id::text placing 'ffff' from 1 for 4)::uuid, shard, id, $1, 1, 0, 1, $2, $2, $2, $2
from (select `+id+` as id, (i % 1024)::smallint as shard from generate_series(0, 999) i) users`, appID, now.Add(-time.Hour))
			b.StartTimer()
			if got, err := s.DeleteExpired(b.Context(), now, now, 1000); err != nil || got != 1000 {
				b.Fatalf("DeleteExpired() = %d, error %v, want 1000", got, err)
			}
		}
	})
}
