package shard_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/seal"
	"github.com/yufu-auth/yufu/pkg/shard"
)

func TestOf(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]int16{
		"00000000-0000-0000-0000-000000000000": 0,
		"ffffffff-ffff-ffff-ffff-fffffffffc00": 0,
		"00000000-0000-0000-0000-0000000003ff": 1023,
		"0190a1b2-c3d4-7e5f-8a6b-0000000005e7": 0x1e7,
	} {
		if got := shard.Of(uuid.MustParse(id)); got != want {
			t.Errorf("Of(%s) = %d, want %d", id, got, want)
		}
	}
}

func TestNewID(t *testing.T) {
	t.Parallel()
	seen := map[uuid.UUID]bool{}
	for n := range int16(shard.Count) {
		id, err := shard.NewID(n)
		if err != nil {
			t.Fatal(err)
		}
		if id.Version() != 7 || id.Variant() != uuid.RFC4122 {
			t.Fatalf("NewID(%d) = %s has version %d and variant %s, want version 7 of RFC 9562", n, id, id.Version(), id.Variant())
		}
		if got := shard.Of(id); got != n {
			t.Errorf("Of(NewID(%d)) = %d, want the same shard", n, got)
		}
		seen[id] = true
	}
	if len(seen) != shard.Count {
		t.Errorf("NewID returned %d different ids, want %d", len(seen), shard.Count)
	}
}

func TestAll(t *testing.T) {
	t.Parallel()
	one, two := uuid.UUID{15: 1}, uuid.UUID{14: 3, 15: 2}
	if got, want := shard.All([]uuid.UUID{one, two}), []int16{1, 0x302}; !slices.Equal(got, want) {
		t.Errorf("All() = %v, want %v", got, want)
	}
}

func TestKeyOf(t *testing.T) {
	t.Parallel()
	k := shard.NewKey()

	t.Run("spreads the accounts of an app over all shards", func(t *testing.T) {
		t.Parallel()
		var accounts [shard.Count]int
		for n := range 64 * shard.Count {
			accounts[k.Of("wx0123456789abcdef", auth.OpenIDAccount(fmt.Sprint("o-", n)))]++
		}
		for n, count := range accounts {
			// 64 on average. A count this far off has a probability below 10⁻¹⁰.
			if count < 10 || count > 130 {
				t.Errorf("shard %d has %d of %d accounts, want about 64", n, count, 64*shard.Count)
			}
		}
	})

	t.Run("depends on the app, the kind and the subject, and on nothing else", func(t *testing.T) {
		t.Parallel()
		// 16 accounts each, so that equal shards by chance do not count.
		shards := func(k *shard.Key, app, kind, prefix, unionID string) []int16 {
			var all []int16
			for n := range 16 {
				all = append(all, k.Of(app, auth.PlatformAccount{SubjectKind: kind, Subject: prefix + string(rune('a'+n)), UnionID: unionID}))
			}
			return all
		}
		want := shards(k, "wx1", "openid", "o", "")
		if got := shards(k, "wx1", "openid", "o", "u"); !slices.Equal(got, want) {
			t.Errorf("shards with a unionid = %v, want %v as without", got, want)
		}
		for name, got := range map[string][]int16{
			"another app":                            shards(k, "wx2", "openid", "o", ""),
			"another kind":                           shards(k, "wx1", "userid", "o", ""),
			"another subject":                        shards(k, "wx1", "openid", "p", ""),
			"another key":                            shards(shard.NewKey(), "wx1", "openid", "o", ""),
			"the same letters divided in other ways": shards(k, "wx", "1openid", "o", ""),
		} {
			if slices.Equal(got, want) {
				t.Errorf("%s has the same shards %v, want others", name, got)
			}
		}
	})
}

// stored is a database's key.
type stored struct {
	shard.Sealed
	err error
}

func (s stored) ShardKey(context.Context) (shard.Sealed, error) { return s.Sealed, s.err }

func TestOpen(t *testing.T) {
	t.Parallel()
	ring := func() *seal.Ring {
		r, err := seal.ParseRing(seal.GenerateFile())
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	sealer := ring()
	made := func() shard.Sealed {
		key, err := shard.Make(sealer)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	key, other := made(), made()

	t.Run("returns the same key each time", func(t *testing.T) {
		t.Parallel()
		account := auth.OpenIDAccount("o-1")
		var shards []int16
		for range 2 {
			k, err := shard.Open(t.Context(), stored{Sealed: key}, sealer)
			if err != nil {
				t.Fatal(err)
			}
			for _, app := range []string{"wx1", "wx2", "wx3", "wx4"} {
				shards = append(shards, k.Of(app, account))
			}
		}
		if !slices.Equal(shards[:4], shards[4:]) {
			t.Errorf("shards = %v and then %v, want the same", shards[:4], shards[4:])
		}
	})

	down := &auth.Error{Code: auth.StorageUnavailable}
	for name, c := range map[string]struct {
		store  stored
		sealer *seal.Ring
		want   error
	}{
		"a missing row":            {stored{err: shard.ErrMissing}, sealer, shard.ErrMissing},
		"a database that is down":  {stored{err: down}, sealer, down},
		"another master key":       {stored{Sealed: key}, ring(), seal.ErrOpen},
		"another database's key":   {stored{Sealed: shard.Sealed{Key: other.Key, Check: key.Check}}, sealer, shard.ErrChanged},
		"another check value":      {stored{Sealed: shard.Sealed{Key: key.Key, Check: other.Check}}, sealer, shard.ErrChanged},
		"no check value":           {stored{Sealed: shard.Sealed{Key: key.Key}}, sealer, shard.ErrChanged},
		"a key cut off at the end": {stored{Sealed: shard.Sealed{Key: key.Key[:20], Check: key.Check}}, sealer, seal.ErrOpen},
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			t.Parallel()
			if k, err := shard.Open(t.Context(), c.store, c.sealer); !errors.Is(err, c.want) || k != nil {
				t.Errorf("Open() = %v, %v, want nil and %v", k, err, c.want)
			}
		})
	}
}
