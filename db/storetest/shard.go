package storetest

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/shard"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

// shardsOf returns the shards in the rows of a session and its identity.
func (f *fixture) shardsOf(t testing.TB, s auth.Session) [2]int {
	t.Helper()
	return [2]int{
		f.number(t, `select shard from identities where uuid = ?`, s.Identity.String()),
		f.number(t, `select shard from sessions where id = ?`, s.ID.String()),
	}
}

// inShard returns an id in the shard n.
func inShard(t testing.TB, n int16) uuid.UUID {
	t.Helper()
	id, err := shard.NewID(n)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

var shardTests = []test{
	{"the rows of an account are in the shard that its ids name", func(t *testing.T, f *fixture) {
		for _, openID := range []string{"o-1", "o-2", "o-3"} {
			for range 2 {
				s := f.exchange(t, openID, t0)
				n := int(shard.Of(shardtest.NewID(appA, auth.OpenIDAccount(openID))))
				wantEqual(t, "shards of "+openID, f.shardsOf(t, s), [2]int{n, n})
			}
		}
	}},
	{"the smallest and the largest shard have rows like others", func(t *testing.T, f *fixture) {
		for _, n := range []int16{0, shard.Count - 1} {
			x := params(appA, "o-1", t0)
			x.NewIdentity, x.NewSession = inShard(t, n), inShard(t, n)
			g, err := f.Store.Exchange(t.Context(), x)
			wantCode(t, err, "")
			wantEqual(t, "shards", f.shardsOf(t, g.Session), [2]int{int(n), int(n)})
			_, err = f.refresh(t.Context(), g.Session.ID, 1, t0)
			wantCode(t, err, "")
		}
	}},
	// This is what happens when the key of the shards is lost and made again.
	{"the same account in another shard is another identity", func(t *testing.T, f *fixture) {
		first := f.exchange(t, "o-1", t0)
		x := params(appA, "o-1", t0)
		n := (shard.Of(first.ID) + 1) % shard.Count
		x.NewIdentity, x.NewSession = inShard(t, n), inShard(t, n)
		g, err := f.Store.Exchange(t.Context(), x)
		wantCode(t, err, "")
		wantEqual(t, "identity", g.Session.Identity, x.NewIdentity)
	}},
	{"a session in another shard than its identity is refused", func(t *testing.T, f *fixture) {
		x := params(appA, "o-1", t0)
		x.NewSession = inShard(t, (shard.Of(x.NewIdentity)+1)%shard.Count)
		if _, err := f.Store.Exchange(t.Context(), x); err == nil {
			t.Error("Exchange() error = nil, want an error")
		}
		if n := f.number(t, `select count(*) from sessions`); n != 0 {
			t.Errorf("the database has %d sessions, want none", n)
		}
	}},
	{"an erased identity keeps its shard", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		before := f.shardsOf(t, s)
		f.erase(t, s.Identity, t0)
		wantEqual(t, "shards", f.shardsOf(t, s), before)
	}},
	{"the key is the one that the tables were made with", func(t *testing.T, f *fixture) {
		for range 2 {
			got, err := f.Store.ShardKey(t.Context())
			wantCode(t, err, "")
			wantEqual(t, "key", got, shardtest.Sealed)
			another := shard.Sealed{Key: []byte("another key"), Check: []byte("another check value")}
			wantCode(t, f.Store.Migrate(t.Context(), another), "")
		}
	}},
	{"a missing key is an error", func(t *testing.T, f *fixture) {
		f.exec(t, `delete from shard_key`)
		if got, err := f.Store.ShardKey(t.Context()); !errors.Is(err, shard.ErrMissing) {
			t.Errorf("ShardKey() = %v, %v, want ErrMissing", got, err)
		}
	}},
}
