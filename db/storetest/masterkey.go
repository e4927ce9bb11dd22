package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/masterkey"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/platform/accesstoken"
	"github.com/yufu-auth/yufu/pkg/seal"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/shard"
)

// ringOf returns a ring of keys that consist of one byte each.
func ringOf(t testing.TB, fills ...byte) *seal.Ring {
	t.Helper()
	var keys [][]byte
	for _, b := range fills {
		keys = append(keys, bytes.Repeat([]byte{b}, seal.KeySize))
	}
	ring, err := seal.NewRing(keys...)
	wantCode(t, err, "")
	return ring
}

func sealed(t testing.TB, ring *seal.Ring, plain string, aad []byte) []byte {
	t.Helper()
	b, err := ring.Seal([]byte(plain), aad)
	wantCode(t, err, "")
	return b
}

// loginSealed logs in an account of app A with a session_key that the ring seals.
func (f *fixture) loginSealed(t testing.TB, ring *seal.Ring, openID, key string) uuid.UUID {
	t.Helper()
	x := params(appA, openID, t0)
	x.SealedSessionKey = sealed(t, ring, key, session.SessionKeyAAD(appA, x.Account))
	g, err := f.Store.Exchange(t.Context(), x)
	wantCode(t, err, "")
	return g.Session.Identity
}

// sealAll fills every sealed column with the help of the packages that own the values, and
// returns how many values there are of each.
func (f *fixture) sealAll(t *testing.T, ring *seal.Ring) map[string]int {
	t.Helper()
	for _, id := range []string{appA, appB} {
		_, err := f.Store.UpdateApp(t.Context(), id, app.Change{
			SealedCredentials: map[string][]byte{
				auth.CredentialAppSecret: sealed(t, ring, "secret of "+id, app.CredentialAAD(id, auth.CredentialAppSecret)),
				"another":                sealed(t, ring, "other secret of "+id, app.CredentialAAD(id, "another")),
			},
		}, event(auth.AuditAppUpdated, t0))
		wantCode(t, err, "")
	}
	_, err := f.Store.UpdateApp(t.Context(), appA, app.Change{SealedWebhookSecret: sealed(t, ring, "webhook", app.WebhookSecretAAD(appA))}, event(auth.AuditAppUpdated, t0))
	wantCode(t, err, "")
	token := accesstoken.Kept{Sealed: sealed(t, ring, "token", seal.AAD("platform_tokens", "sealed_token", appA)), ExpiresAt: t0}
	wantEqual(t, "kept", f.keep(t, f.mustLease(t, t0), token), true)
	_, err = person.OpenFactKey(t.Context(), f.Store, ring, t0)
	wantCode(t, err, "")
	key, err := shard.Make(ring)
	wantCode(t, err, "")
	f.exec(t, `update shard_key set sealed = ?, check_value = ?`, key.Key, key.Check)
	_, err = keyring.Open(t.Context(), f.Store, ring, t0)
	wantCode(t, err, "")
	for i := range 9 {
		f.loginSealed(t, ring, fmt.Sprint("o-", i), fmt.Sprint("session_key ", i))
	}
	// Neither an erased user nor a retired key has a sealed value.
	f.erase(t, f.loginSealed(t, ring, "o-erased", "erased"), t0)
	f.changeKeys(t, t0, keyring.Change{Add: []keyring.StoredKey{{KID: "retired", Use: keyring.UseAccess, Alg: "ES256", Sealed: []byte{}, CreatedAt: t0, RetiredAt: t0}}})
	return map[string]int{
		"AppSecrets": 4, "webhook secrets": 1, "signing and MAC keys": 4, "key of the facts": 1,
		"key of the shards": 1, "platform access tokens": 1, "session_keys": 9,
	}
}

// wantStatus checks what each key of the ring seals, by what the values are.
func (f *fixture) wantStatus(t testing.TB, when string, ring *seal.Ring, want ...map[string]int) {
	t.Helper()
	found, err := masterkey.Inspect(t.Context(), f.Store, ring)
	wantCode(t, err, "")
	got := make([]map[string]int, len(want))
	for _, n := range found {
		if n.Line == 0 {
			t.Errorf("%s no key opens %+v", when, n)
		} else if n.Values > 0 {
			if got[n.Line-1] == nil {
				got[n.Line-1] = map[string]int{}
			}
			got[n.Line-1][n.What] = n.Values
		}
	}
	wantEqual(t, "values of the keys "+when, got, want)
}

func (f *fixture) rewrap(t testing.TB, ring *seal.Ring) masterkey.Rewrapped {
	t.Helper()
	done, err := masterkey.Rewrap(t.Context(), f.Store, ring, event(auth.AuditMasterRewrapped, t0))
	wantCode(t, err, "")
	return done
}

func column(what string) *masterkey.Column {
	return masterkey.Columns[slices.IndexFunc(masterkey.Columns, func(c *masterkey.Column) bool { return c.What == what })]
}

var masterKeyTests = []test{
	{"every sealed column of the schema is listed", func(t *testing.T, f *fixture) {
		query := `select m.name || '.' || c.name from sqlite_schema m join pragma_table_info(m.name) c where m.type = 'table' and c.name like 'sealed%' order by 1`
		if f.Dollar {
			query = `select relname || '.' || attname from pg_attribute join pg_class c on c.oid = attrelid
where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition and attname like 'sealed%' order by 1`
		}
		rows, err := f.DB.QueryContext(t.Context(), query)
		wantCode(t, err, "")
		defer rows.Close()
		var schema, listed []string
		for rows.Next() {
			var name string
			wantCode(t, rows.Scan(&name), "")
			schema = append(schema, name)
		}
		wantCode(t, rows.Err(), "")
		for _, c := range masterkey.Columns {
			listed = append(listed, c.Table+"."+c.Name)
		}
		slices.Sort(schema)
		slices.Sort(listed)
		wantEqual(t, "sealed columns", listed, schema)
	}},
	{"everything is sealed again and then opens without the old key", func(t *testing.T, f *fixture) {
		before, both, after := ringOf(t, 1), ringOf(t, 2, 1), ringOf(t, 2)
		values := f.sealAll(t, before)
		f.wantStatus(t, "at first", both, nil, values)
		wantCode(t, masterkey.Check(t.Context(), f.Store, both), "")
		if err := masterkey.Check(t.Context(), f.Store, after); !errors.Is(err, seal.ErrOpen) {
			t.Errorf("Check() without the old key: error = %v, want %v", err, seal.ErrOpen)
		}
		counted := f.counts(t)

		done := f.rewrap(t, both)
		wantEqual(t, "rows sealed again", done.Rows, 19)
		wantEqual(t, "rows sealed with the old key meanwhile", done.Late, 0)
		f.wantStatus(t, "at the end", after, values)
		f.wantCounts(t, counted, counts{Audit: 1})
		wantEqual(t, "audit", f.number(t, `select count(*) from audit where action = ? and reason = 'because' and cast(detail ->> 'rows' as text) = ?`,
			string(auth.AuditMasterRewrapped), "19"), 1)

		a, err := f.Store.App(t.Context(), appA)
		wantCode(t, err, "")
		credentials, err := app.Credentials(after, &a)
		wantCode(t, err, "")
		wantEqual(t, "AppSecret", credentials.Secrets[auth.CredentialAppSecret].Reveal(), "secret of "+appA)
		wantEqual(t, "updated at", a.UpdatedAt, t0)
		_, err = person.OpenFactKey(t.Context(), f.Store, after, t0)
		wantCode(t, err, "")
		_, err = shard.Open(t.Context(), f.Store, after)
		wantCode(t, err, "")
		_, err = keyring.Open(t.Context(), f.Store, after, t0)
		wantCode(t, err, "")

		wantEqual(t, "a second run", f.rewrap(t, both).Rows, 0)
		f.wantCounts(t, counted, counts{Audit: 1})
	}},
	{"a value that no key opens stays and is reported", func(t *testing.T, f *fixture) {
		f.loginSealed(t, ringOf(t, 1), "o-opens", "opens")
		lost := f.loginSealed(t, ringOf(t, 3), "o-lost", "lost")
		f.sealAll(t, ringOf(t, 1))
		done := f.rewrap(t, ringOf(t, 2, 1))
		wantEqual(t, "unopened", done.Counts[len(done.Counts)-1],
			masterkey.Count{What: "session_keys", Fingerprint: ringOf(t, 3).Fingerprints()[0], Values: 1, Row: lost.String()})
		wantCode(t, masterkey.Check(t.Context(), f.Store, ringOf(t, 2)), "")
	}},
	{"rows are read in the order of their keys, each once", func(t *testing.T, f *fixture) {
		f.sealAll(t, ringOf(t, 1))
		for _, c := range masterkey.Columns {
			all, err := f.Store.SealedRows(t.Context(), c, c.First, 100)
			wantCode(t, err, "")
			after := c.First
			for i, want := range all {
				got, err := f.Store.SealedRows(t.Context(), c, after, 1)
				wantCode(t, err, "")
				wantEqual(t, fmt.Sprint(c.Table, ".", c.Name, " ", i), got, []masterkey.Row{want})
				after = want.Key
			}
			rest, err := f.Store.SealedRows(t.Context(), c, after, 1)
			wantCode(t, err, "")
			wantEqual(t, c.Table+" after the last row", len(rest), 0)
			wantEqual(t, c.Table+" has rows", len(all) > 0, true)
		}
	}},
	{"a value that was changed since it was read is kept", func(t *testing.T, f *fixture) {
		f.sealAll(t, ringOf(t, 1))
		for _, c := range masterkey.Columns {
			rows, err := f.Store.SealedRows(t.Context(), c, c.First, 1)
			wantCode(t, err, "")
			other, fresh := []byte("other"), []byte("new")
			if c.Named {
				other, fresh = []byte(`{"a":"b3RoZXI="}`), []byte(`{"a":"bmV3"}`)
			}
			n, err := f.Store.ReplaceSealed(t.Context(), c, []masterkey.Replacement{{Key: rows[0].Key, Old: other, New: fresh}})
			wantCode(t, err, "")
			wantEqual(t, c.What+" replaced", n, 0)
			again, err := f.Store.SealedRows(t.Context(), c, c.First, 1)
			wantCode(t, err, "")
			wantEqual(t, c.What, again, rows)
		}
	}},
	{"a change of a signing key does not bring an old sealed value back", func(t *testing.T, f *fixture) {
		k := key("k", t0)
		f.changeKeys(t, t0, keyring.Change{Add: []keyring.StoredKey{k}})
		n, err := f.Store.ReplaceSealed(t.Context(), column("signing and MAC keys"), []masterkey.Replacement{{Key: "k", Old: k.Sealed, New: []byte("again")}})
		wantCode(t, err, "")
		wantEqual(t, "replaced", n, 1)
		k.ActiveAt = t0.Add(time.Minute)
		got := f.changeKeys(t, t0, keyring.Change{Update: []keyring.StoredKey{k}})
		k.Sealed = []byte("again")
		wantEqual(t, "keys", got, []keyring.StoredKey{k})
	}},
	{"replicas notice that the secrets of an app were sealed again", func(t *testing.T, f *fixture) {
		f.sealAll(t, ringOf(t, 1))
		state := func() string {
			version, _, err := f.Store.AppsState(t.Context())
			wantCode(t, err, "")
			return version
		}
		for _, what := range []string{"AppSecrets", "webhook secrets"} {
			c, before := column(what), state()
			rows, err := f.Store.SealedRows(t.Context(), c, c.First, 1)
			wantCode(t, err, "")
			n, err := f.Store.ReplaceSealed(t.Context(), c, []masterkey.Replacement{{Key: rows[0].Key, Old: rows[0].Stored, New: bytes.Replace(rows[0].Stored, rows[0].Stored[20:21], []byte("x"), 1)}})
			wantCode(t, err, "")
			wantEqual(t, "replaced", n, 1)
			wantEqual(t, "another state after "+what, state() != before, true)
		}
	}},
}
