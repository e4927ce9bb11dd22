package postgres_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

var now = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

const (
	appID = "wxaaaaaaaaaaaaaaaa"
	idle  = 30 * 24 * time.Hour
)

// bed is a store and direct access to its database.
type bed struct {
	t     *testing.T
	store *postgres.Store
	raw   *sql.DB
	dsn   string
	admin *sql.DB // another database of the server, if a test needs one
}

func newBed(t *testing.T) *bed {
	t.Helper()
	dsn := migrated.New(t)
	b := &bed{t: t, store: openStore(t, dsn), raw: openRaw(t, dsn), dsn: dsn}
	b.addApp()
	return b
}

func (b *bed) addApp() {
	b.t.Helper()
	err := b.store.AddApp(b.t.Context(), auth.App{ID: appID, Platform: auth.PlatformWeChat, SealedCredentials: map[string][]byte{auth.CredentialAppSecret: []byte("s")}},
		auth.AuditEvent{At: now, Action: auth.AuditAppAdded, Actor: auth.ActorCLI})
	if err != nil {
		b.t.Fatal(err)
	}
}

func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

func exchangeParams() session.ExchangeParams {
	return session.ExchangeParams{
		AppID: appID, Account: auth.OpenIDAccount("o-1"), SealedSessionKey: []byte("k"), NewIdentity: shardtest.NewID(appID, auth.OpenIDAccount("o-1")), NewSession: shardtest.NewID(appID, auth.OpenIDAccount("o-1")),
		Now: now, IdleTTL: idle, MaxTTL: 2 * idle,
	}
}

func (b *bed) exchange() auth.Session { return b.exchangeAs("o-1") }

func (b *bed) exchangeAs(openID string) auth.Session {
	b.t.Helper()
	x := exchangeParams()
	x.Account.Subject = openID
	g, err := b.store.Exchange(b.t.Context(), x)
	if err != nil {
		b.t.Fatal(err)
	}
	return g.Session
}

func refreshParams(id uuid.UUID, presented uint32) session.RefreshParams {
	return session.RefreshParams{Session: id, Presented: presented, AppID: appID, Now: now, Grace: time.Minute, IdleTTL: idle}
}

func (b *bed) rotate(id uuid.UUID, presented uint32) {
	b.t.Helper()
	if _, err := b.store.Refresh(b.t.Context(), refreshParams(id, presented)); err != nil {
		b.t.Fatal(err)
	}
}

func endParams(id uuid.UUID) session.EndParams {
	return session.EndParams{Session: id, AppID: appID, Reason: auth.EndLogout, Now: now,
		Event: auth.AuditEvent{At: now, Action: auth.AuditSessionLogout, Actor: auth.ActorBearer}}
}

func revokeParams(target session.Target) session.RevokeParams {
	return session.RevokeParams{Target: target, Now: now,
		Event: auth.AuditEvent{At: now, Action: auth.AuditRevoked, Actor: auth.ActorCLI}}
}

// begin opens a transaction without the store.
func (b *bed) begin() *sql.Tx {
	b.t.Helper()
	tx, err := b.raw.BeginTx(context.WithoutCancel(b.t.Context()), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = tx.Rollback() })
	return tx
}

type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func (b *bed) exec(e execer, query string, args ...any) {
	b.t.Helper()
	if _, err := e.ExecContext(b.t.Context(), query, args...); err != nil {
		b.t.Fatalf("%s: %v", query, err)
	}
}

func (b *bed) number(e execer, query string, args ...any) int {
	b.t.Helper()
	var n int
	if err := e.QueryRowContext(b.t.Context(), query, args...).Scan(&n); err != nil {
		b.t.Fatalf("%s: %v", query, err)
	}
	return n
}

func (b *bed) commit(tx *sql.Tx) {
	b.t.Helper()
	if err := tx.Commit(); err != nil {
		b.t.Fatal(err)
	}
}

// untilWaiting returns when n backends of this database wait for a lock of the kind
// ("transactionid" for a row, "advisory").
func (b *bed) untilWaiting(n int, kind string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 30*time.Second)
	defer cancel()
	for {
		var waiting int
		err := b.raw.QueryRowContext(ctx, `
select count(*) from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock' and wait_event = any (string_to_array($1, ','))`, kind).Scan(&waiting)
		if err != nil {
			b.t.Fatalf("timed out until %d calls wait for a lock (%s): %v", n, kind, err)
		}
		if waiting == n {
			return
		}
	}
}

const (
	row      = "transactionid,tuple"
	advisory = "advisory"
)

type result struct {
	granted session.Granted
	err     error
}

// start runs a call in the background.
func start(call func() (session.Granted, error)) <-chan result {
	done := make(chan result, 1)
	go func() {
		g, err := call()
		done <- result{g, err}
	}()
	return done
}

// succeeds fails the test if a background call failed.
func (b *bed) succeeds(r result) {
	b.t.Helper()
	if r.err != nil {
		b.t.Fatalf("background call: error = %v", r.err)
	}
}

func (b *bed) startExchange(x session.ExchangeParams) <-chan result {
	return start(func() (session.Granted, error) { return b.store.Exchange(b.t.Context(), x) })
}

func (b *bed) startRefresh(r session.RefreshParams) <-chan result {
	return start(func() (session.Granted, error) { return b.store.Refresh(b.t.Context(), r) })
}

func (b *bed) startEnd(id uuid.UUID) <-chan result {
	return start(func() (session.Granted, error) {
		return session.Granted{}, b.store.End(b.t.Context(), endParams(id))
	})
}

func (b *bed) startRevoke(target session.Target) <-chan result {
	return start(func() (session.Granted, error) {
		_, err := b.store.Revoke(b.t.Context(), revokeParams(target))
		return session.Granted{}, err
	})
}

func (b *bed) person() auth.Person {
	return auth.Person{ID: newID(), ExternalID: "E-1", Name: "王小明"}
}

func (b *bed) insertPerson(e execer, p auth.Person) {
	b.t.Helper()
	b.exec(e, `insert into persons (id, external_id, name, created_at) values ($1, $2, $3, $4)`, p.ID, p.ExternalID, p.Name, now)
}

// newPerson adds a person.
func (b *bed) newPerson() auth.Person {
	b.t.Helper()
	p := b.person()
	b.insertPerson(b.raw, p)
	return p
}

// personOf adds a person and binds the session's identity to them, but no session.
func (b *bed) personOf(s auth.Session) auth.Person {
	b.t.Helper()
	p := b.newPerson()
	b.exec(b.raw, `update identities set person_id = $2 where uuid = $1`, s.Identity, p.ID)
	return p
}

// holdCutoffs makes every other transaction wait before its first cutoff.
func (b *bed) holdCutoffs() *sql.Tx {
	b.t.Helper()
	tx := b.begin()
	b.exec(tx, `lock table cutoffs in share mode`)
	return tx
}

// dump returns everything that a refresh could change.
func (b *bed) dump() string {
	b.t.Helper()
	var s string
	err := b.raw.QueryRowContext(b.t.Context(), `
select concat((select jsonb_agg(to_jsonb(s)) from sessions s), (select jsonb_agg(to_jsonb(a)) from audit a),
  (select jsonb_agg(to_jsonb(c)) from cutoffs c))`).Scan(&s)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}
