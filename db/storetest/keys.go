package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
)

func key(kid string, created time.Time) keyring.StoredKey {
	return keyring.StoredKey{
		KID: kid, Use: keyring.UseAccess, Alg: "ES256", Sealed: []byte{0, 1, 2}, Public: []byte(`{"kty":"EC"}`),
		CreatedAt: created,
	}
}

var keyTests = []test{
	{"there_are_none_at_first", func(t *testing.T, f *fixture) {
		keys, err := f.Store.Keys(t.Context())
		wantCode(t, err, "")
		wantEqual(t, "keys", len(keys), 0)
	}},
	{"added_keys_are_read_back_in_order_and_audited", func(t *testing.T, f *fixture) {
		before := f.counts(t)
		next := key("b-next", t0)
		current := key("a-current", t0)
		current.ActiveAt = t0
		mac := keyring.StoredKey{KID: "00000001", Use: keyring.UseRefresh, Alg: "HS256", Sealed: []byte("mac"), CreatedAt: t0.Add(time.Second), ActiveAt: t0, RetiredAt: t0.Add(time.Hour)}
		want := []keyring.StoredKey{current, next, mac}
		got, err := f.Store.AddKeys(t.Context(), t0.Add(time.Minute), func(existing []keyring.StoredKey) ([]keyring.StoredKey, error) {
			wantEqual(t, "existing", len(existing), 0)
			return []keyring.StoredKey{mac, next, current}, nil
		})
		wantCode(t, err, "")
		wantEqual(t, "answer", got, want)
		got, err = f.Store.Keys(t.Context())
		wantCode(t, err, "")
		wantEqual(t, "as read", got, want)
		f.wantCounts(t, before, counts{Keys: 3, Audit: 3})
		wantEqual(t, "audit events of the service",
			f.number(t, `select count(*) from audit where action = ? and actor = ? and at = ?`,
				string(auth.AuditKeyCreated), auth.ActorService, f.Time(t0.Add(time.Minute))), 3)
	}},
	{"proposing_nothing_writes_nothing_and_answers_with_what_there_is", func(t *testing.T, f *fixture) {
		add := func(keys ...keyring.StoredKey) []keyring.StoredKey {
			all, err := f.Store.AddKeys(t.Context(), t0, func([]keyring.StoredKey) ([]keyring.StoredKey, error) { return keys, nil })
			wantCode(t, err, "")
			return all
		}
		add(key("k", t0))
		before := f.counts(t)
		wantEqual(t, "keys", add(), []keyring.StoredKey{key("k", t0)})
		f.wantCounts(t, before, counts{})
	}},
	{"a_proposal_that_fails_writes_nothing_and_its_error_comes_back_as_it_is", func(t *testing.T, f *fixture) {
		before := f.counts(t)
		refused := errors.New("no entropy")
		_, err := f.Store.AddKeys(t.Context(), t0, func([]keyring.StoredKey) ([]keyring.StoredKey, error) {
			return []keyring.StoredKey{key("k", t0)}, refused
		})
		if err != refused { //nolint:errorlint // as it is, not wrapped
			t.Fatalf("error %v, want the proposal's own", err)
		}
		f.wantCounts(t, before, counts{})
	}},
	{"one_bad_key_keeps_all_out", func(t *testing.T, f *fixture) {
		before := f.counts(t)
		_, err := f.Store.AddKeys(t.Context(), t0, func([]keyring.StoredKey) ([]keyring.StoredKey, error) {
			return []keyring.StoredKey{key("k", t0), key("k", t0)}, nil
		})
		wantCode(t, err, auth.Internal)
		f.wantCounts(t, before, counts{})
	}},
	{"many_replicas_starting_at_once_agree_on_one_set", func(t *testing.T, f *fixture) {
		const replicas = 20
		sets := make([][]keyring.StoredKey, replicas)
		var wg sync.WaitGroup
		for i := range replicas {
			wg.Go(func() {
				var err error
				sets[i], err = f.Store.AddKeys(t.Context(), t0, func(existing []keyring.StoredKey) ([]keyring.StoredKey, error) {
					if len(existing) > 0 {
						return nil, nil
					}
					return []keyring.StoredKey{key(fmt.Sprintf("current-%d", i), t0), key(fmt.Sprintf("next-%d", i), t0)}, nil
				})
				if err != nil {
					t.Errorf("AddKeys: %v", err)
				}
			})
		}
		wg.Wait()
		wantEqual(t, "keys", len(sets[0]), 2)
		for _, s := range sets[1:] {
			wantEqual(t, "another replica's keys", s, sets[0])
		}
	}},
}
