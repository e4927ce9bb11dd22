// Package storetest is the store contract as a test suite: it checks for every
// database what the interfaces in [db.Store] document. A change of behaviour starts
// here.
//
// It owns the behaviour that all stores share, including contention and hostile
// input, a property test against a small model, and the benchmarks. It does not own
// the behaviour of a single database, such as the order of PostgreSQL's row locks, waits
// for them, or SQLite's file. The tests in the store's own package check that.
package storetest

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/db"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

// Harness is a migrated, empty database for one test.
type Harness struct {
	Store db.Store
	// DB accesses the database without the store, to insert and count rows.
	DB *sql.DB
	// Dollar says that DB's placeholders are $1, $2, … instead of question marks.
	Dollar bool
	// Time converts a time to the value that DB stores in a column.
	Time func(time.Time) any
	// RoundTrips returns the number of round trips to the database that Store has
	// made. It is nil for a database without round trips.
	RoundTrips func() int64
	// Bytes is a query for the size of the tables and indexes that log-ins fill.
	Bytes string
	// Distributed says that no query of DB sees all tables at one moment.
	Distributed bool
}

// Run runs the suite. open returns a new database for each test.
func Run(t *testing.T, open func(testing.TB) Harness) {
	for _, group := range []struct {
		name  string
		tests []test
	}{
		{"Apps", appTests},
		{"Exchange", exchangeTests},
		{"SessionLimit", limitTests},
		{"Refresh", refreshTests},
		{"RefreshRefused", refusedTests},
		{"Subjects", subjectTests},
		{"End", endTests},
		{"LiveSessions", liveTests},
		{"PlatformAccount", accountTests},
		{"Shards", shardTests},
		{"DeleteExpired", deleteTests},
		{"Revoke", revokeTests},
		{"RevokeRestricted", restrictedTests},
		{"Cutoffs", cutoffTests},
		{"Restore", restoreTests},
		{"History", historyTests},
		{"PersonsOfAdmins", personAdminTests},
		{"UpsertPersons", upsertTests},
		{"Identities", identityTests},
		{"EraseIdentity", eraseTests},
		{"DelaysOfAdmins", delayTests},
		{"Audit", auditTests},
		{"Keys", keyTests},
		{"MasterKey", masterKeyTests},
		{"ServiceKeys", serviceKeyTests},
		{"ServiceKeyPins", pinTests},
		{"ServiceKeyFamilies", familyTests},
		{"Persons", personTests},
		{"Bind", bindTests},
		{"BindTickets", ticketTests},
		{"BindAttempts", attemptTests},
		{"BindRaces", bindRaceTests},
		{"BindTiming", timingTests},
		{"PlatformTokens", platformTokenTests},
		{"Replicas", replicaTests},
		{"Contention", contentionTests},
		{"Cancelled", cancelledTests},
		{"HostileText", hostileTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			for _, c := range group.tests {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					c.run(t, newApplying(t, open(t)))
				})
			}
		})
	}
	t.Run("Property", func(t *testing.T) {
		t.Parallel()
		property(t, newApplying(t, open(t)))
	})
}

type test struct {
	name string
	run  func(t *testing.T, f *fixture)
}

// Lifetimes in the suite.
const (
	grace   = time.Minute
	idleTTL = 30 * 24 * time.Hour
	maxTTL  = 180 * 24 * time.Hour
)

// t0 is the start of every test. It has microseconds, to detect a store that drops
// them.
var t0 = time.Date(2026, 3, 4, 5, 6, 7, 890123000, time.UTC)

const (
	appA = "wxaaaaaaaaaaaaaaaa"
	appB = "wxbbbbbbbbbbbbbbbb"
)

// fixture is a harness with two registered apps and helpers for tests.
type fixture struct {
	Harness
	// applied is the last cutoff that the store has applied.
	applied atomic.Int64
}

func newFixture(t testing.TB, h Harness) *fixture {
	t.Helper()
	f := &fixture{Harness: h}
	for _, id := range []string{appA, appB} {
		f.addApp(t, auth.App{
			ID: id, Platform: auth.PlatformWeChat, SealedCredentials: map[string][]byte{auth.CredentialAppSecret: []byte("sealed " + id)},
			Audiences: []string{"https://" + id + ".example"},
		})
	}
	return f
}

// newApplying is [newFixture] with a store that applies the cutoffs that it writes. When
// the test ends, it fails if there are cutoffs that were not applied.
func newApplying(t *testing.T, h Harness) *fixture {
	t.Helper()
	f := newFixture(t, h)
	f.Store = db.ApplyCutoffs(h.Store, func(context.Context) { f.apply(t) })
	t.Cleanup(func() {
		if id := f.lastWritten(t); id > f.applied.Load() {
			t.Errorf("the last cutoff is %d, but the store applied only cutoffs up to %d", id, f.applied.Load())
		}
	})
	return f
}

func (f *fixture) apply(t testing.TB) {
	id := f.lastWritten(t)
	for was := f.applied.Load(); was < id && !f.applied.CompareAndSwap(was, id); was = f.applied.Load() {
	}
}

// lastWritten returns the greatest id of the cutoffs, even after the test has ended.
func (f *fixture) lastWritten(t testing.TB) (id int64) {
	err := f.DB.QueryRowContext(context.WithoutCancel(t.Context()), `select coalesce(max(id), 0) from cutoffs`).Scan(&id)
	if err != nil {
		t.Errorf("reading the last cutoff: %v", err)
	}
	return id
}

// plantCutoff inserts a cutoff without the store.
func (f *fixture) plantCutoff(t testing.TB, query string, args ...any) {
	t.Helper()
	f.exec(t, query, args...)
	f.apply(t)
}

// event returns an audit event as a use case passes it.
func event(action auth.AuditAction, at time.Time) auth.AuditEvent {
	return auth.AuditEvent{At: at, Action: action, Actor: auth.ActorCLI, Reason: "because", RequestID: "req-1"}
}

func (f *fixture) addApp(t testing.TB, a auth.App) {
	t.Helper()
	if err := f.Store.AddApp(t.Context(), a, event(auth.AuditAppAdded, t0)); err != nil {
		t.Fatalf("AddApp() error = %v", err)
	}
}

func newID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

// params returns the parameters of a log-in.
func params(appID, openID string, now time.Time) session.ExchangeParams {
	account := auth.OpenIDAccount(openID)
	return session.ExchangeParams{
		AppID: appID, Account: account, SealedSessionKey: []byte("sealed key"), Device: "a phone",
		NewIdentity: shardtest.NewID(appID, account), NewSession: shardtest.NewID(appID, account), Now: now, IdleTTL: idleTTL, MaxTTL: maxTTL,
	}
}

// exchange logs in an account of app A.
func (f *fixture) exchange(t testing.TB, openID string, now time.Time) auth.Session {
	t.Helper()
	g, err := f.Store.Exchange(t.Context(), params(appA, openID, now))
	if err != nil {
		t.Fatalf("Exchange() error = %v", err)
	}
	return g.Session
}

// limited logs in an account of app A with a session limit.
func (f *fixture) limited(t testing.TB, openID string, now time.Time, limit int) auth.Session {
	t.Helper()
	x := params(appA, openID, now)
	x.MaxSessions, x.RequestID = limit, "req-2"
	g, err := f.Store.Exchange(t.Context(), x)
	if err != nil {
		t.Fatalf("Exchange() error = %v", err)
	}
	return g.Session
}

func refreshParams(id uuid.UUID, presented uint32, now time.Time) session.RefreshParams {
	return session.RefreshParams{
		Session: id, Presented: presented, AppID: appA, Now: now,
		Grace: grace, IdleTTL: idleTTL, RequestID: "req-2",
	}
}

func (f *fixture) refresh(ctx context.Context, id uuid.UUID, presented uint32, now time.Time) (session.Granted, error) {
	return f.Store.Refresh(ctx, refreshParams(id, presented, now))
}

// mustRefresh refreshes and fails the test unless the verdict is want.
func (f *fixture) mustRefresh(t testing.TB, id uuid.UUID, presented uint32, now time.Time, want session.Verdict) auth.Session {
	t.Helper()
	g, err := f.refresh(t.Context(), id, presented, now)
	if err != nil {
		t.Fatalf("Refresh with generation %d: error = %v", presented, err)
	}
	if g.Verdict != want {
		t.Fatalf("Refresh with generation %d: verdict %v, want %v", presented, g.Verdict, want)
	}
	return g.Session
}

// refuse refreshes and fails the test unless the error code is want.
func (f *fixture) refuse(t testing.TB, id uuid.UUID, presented uint32, now time.Time, want auth.Code) {
	t.Helper()
	g, err := f.refresh(t.Context(), id, presented, now)
	if auth.CodeOf(err) != want {
		t.Fatalf("Refresh with generation %d: error = %v, want %s", presented, err, want)
	}
	if diff := cmp.Diff(session.Granted{}, g); diff != "" {
		t.Fatalf("a refused refresh returned a grant:\n%s", diff)
	}
}

// stored reads the session from the store.
func (f *fixture) stored(t testing.TB, id uuid.UUID) auth.Session {
	t.Helper()
	st, err := f.Store.Session(t.Context(), id)
	if err != nil {
		t.Fatalf("Session() error = %v", err)
	}
	return st.Session
}

// bind inserts a person and binds the identity and its sessions to them.
func (f *fixture) bind(t testing.TB, identity uuid.UUID) auth.Person {
	t.Helper()
	p := auth.Person{ID: newID(), ExternalID: "E-" + rune4(), Name: "王小明"}
	f.exec(t, `insert into persons (id, external_id, name, created_at) values (?, ?, ?, ?)`,
		p.ID.String(), p.ExternalID, p.Name, f.Time(t0))
	f.exec(t, `update identities set person_id = ? where uuid = ?`, p.ID.String(), identity.String())
	f.exec(t, `update sessions set person_id = ?, ver = ver + 1 where identity_uuid = ?`, p.ID.String(), identity.String())
	return p
}

func rune4() string { return newID().String()[24:] }

// exec runs a statement with question marks, without the store.
func (f *fixture) exec(t testing.TB, query string, args ...any) {
	t.Helper()
	if _, err := f.DB.ExecContext(t.Context(), f.rebind(query), args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// number queries one integer without the store.
func (f *fixture) number(t testing.TB, query string, args ...any) int {
	t.Helper()
	var n int
	if err := f.DB.QueryRowContext(t.Context(), f.rebind(query), args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// text queries one string without the store.
func (f *fixture) text(t testing.TB, query string, args ...any) string {
	t.Helper()
	var s sql.NullString
	if err := f.DB.QueryRowContext(t.Context(), f.rebind(query), args...).Scan(&s); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return s.String
}

func (f *fixture) rebind(query string) string {
	if !f.Dollar {
		return query
	}
	parts := strings.Split(query, "?")
	var b strings.Builder
	b.WriteString(parts[0])
	for i, p := range parts[1:] {
		fmt.Fprintf(&b, "$%d%s", i+1, p)
	}
	return b.String()
}

// counts is the number of rows of each table.
type counts struct {
	Apps, Persons, Identities, Sessions, Cutoffs, Audit, Keys, ServiceKeys int
}

func (f *fixture) counts(t testing.TB) counts {
	t.Helper()
	var c counts
	err := f.DB.QueryRowContext(t.Context(), `
select (select count(*) from apps), (select count(*) from persons), (select count(*) from identities),
  (select count(*) from sessions), (select count(*) from cutoffs), (select count(*) from audit),
  (select count(*) from signing_keys), (select count(*) from service_keys)`).
		Scan(&c.Apps, &c.Persons, &c.Identities, &c.Sessions, &c.Cutoffs, &c.Audit, &c.Keys, &c.ServiceKeys)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wantCounts fails the test unless the tables have grown by exactly grown since before.
func (f *fixture) wantCounts(t testing.TB, before, grown counts) {
	t.Helper()
	want := counts{
		before.Apps + grown.Apps, before.Persons + grown.Persons, before.Identities + grown.Identities,
		before.Sessions + grown.Sessions, before.Cutoffs + grown.Cutoffs, before.Audit + grown.Audit, before.Keys + grown.Keys,
		before.ServiceKeys + grown.ServiceKeys,
	}
	if diff := cmp.Diff(want, f.counts(t)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// wantCode fails the test unless err has the code; "" wants no error.
func wantCode(t testing.TB, err error, want auth.Code) {
	t.Helper()
	if got := auth.CodeOf(err); got != want {
		t.Fatalf("error = %v, want code %q", err, want)
	}
}

func wantEqual[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
