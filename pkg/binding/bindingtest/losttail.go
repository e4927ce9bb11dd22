package bindingtest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/session/sessiontest"
	"github.com/yufu-auth/yufu/pkg/token"
)

// Tail makes a database lose its latest commits, its tail.
type Tail struct {
	// Exec runs statements, and Texts returns the only column of a query.
	Exec  func(t testing.TB, query string)
	Texts func(t testing.TB, query string) []string
	// Tables is a query for the names of the tables that lose commits.
	Tables string
	// Unordered begins a transaction that checks foreign keys only at its end, or never.
	Unordered string
	// Sequence resets the sequence of the ids of cutoffs to the greatest id that is left.
	// It is empty if the sequence is a table.
	Sequence string
}

// save copies all rows. It returns the statements that restore the copy, and those that
// drop it.
func (d *Tail) save(t *testing.T, n int) (lose, drop func()) {
	t.Helper()
	tables := d.Texts(t, d.Tables)
	if len(tables) < 8 {
		t.Fatalf("tables = %q, want at least 8", tables)
	}
	var keep, lost, gone strings.Builder
	lost.WriteString(d.Unordered)
	for _, name := range tables {
		fmt.Fprintf(&keep, "create table saved_%d_%s as select * from %s;", n, name, name) //nolint:unqueryvet // whatever there is
		fmt.Fprintf(&gone, "drop table saved_%d_%s;", n, name)
		fmt.Fprintf(&lost, "delete from %s;", name)
	}
	for _, name := range tables {
		fmt.Fprintf(&lost, "insert into %s select * from saved_%d_%s;", name, n, name) //nolint:unqueryvet // whatever there is
	}
	lost.WriteString(d.Sequence + "; commit")
	d.Exec(t, keep.String())
	return func() { d.Exec(t, lost.String()) }, func() { d.Exec(t, gone.String()) }
}

// usualRuns is the number of runs, since a run takes long under the race detector. A
// flag for rapid with another number than its default overrides it.
const usualRuns = 25

// LostTail runs two replicas that serve clients from a database that loses its latest
// commits again and again, while replicas and validators remember them. It checks
//
//   - that no replica grants a token which a validator that follows it refuses,
//   - that both replicas and all validators agree as soon as each replica has restored
//     what it remembers,
//   - that a session whose end was acknowledged is not refreshed by any replica after
//     that, and never by the replica that ended it,
//   - and that a user who logs in again gets a token that is valid everywhere.
func LostTail(t *testing.T, open func(t *testing.T) (*Fixture, Tail)) {
	f, tail := open(t)
	saved, runs := 0, 0
	few := flag.Lookup("rapid.checks").Value.String() == "100"
	rapid.Check(t, func(rt *rapid.T) {
		if runs++; few && runs > usualRuns {
			return
		}
		w := &tailWorld{Fixture: f, t: t, rt: rt, user: fmt.Sprintf("run %d", saved)}
		w.replicas = []*tailReplica{w.start(), w.start()}
		save := func(*rapid.T) {
			saved++
			lose, drop := tail.save(t, saved)
			w.saves, w.drops = append(w.saves, lose), append(w.drops, drop)
		}
		save(rt)
		defer func() {
			for _, drop := range w.drops {
				drop()
			}
		}()
		rt.Repeat(map[string]func(*rapid.T){
			"save":       save,
			"lose":       func(*rapid.T) { w.lose() },
			"log in":     func(*rapid.T) { w.logIn(w.replica()) },
			"refresh":    w.with(func(c *tailClient, r *tailReplica) { w.refresh(c, r) }),
			"bind":       w.with(w.bind),
			"unbind":     w.with(w.unbind),
			"log out":    w.with(w.logOut),
			"revoke app": func(*rapid.T) { w.revokeApp() },
			"retire key": func(*rapid.T) { w.retireKey() },
			"follow":     func(*rapid.T) { w.catchUp(w.replica()) },
			"restore":    func(*rapid.T) { w.restore(w.replica()) },
			"restart":    func(*rapid.T) { w.restart() },
			"time":       func(*rapid.T) { f.Clock.Advance(10 * time.Second) },
			"":           func(*rapid.T) { f.Clock.Advance(time.Second) },
		})
		w.settle()
	})
}

// tailWorld is one run.
type tailWorld struct {
	*Fixture
	t        *testing.T
	rt       *rapid.T
	user     string
	replicas []*tailReplica
	clients  []*tailClient
	saves    []func()
	drops    []func()
	// validators followed a replica until it was stopped, and now follow another.
	old []*cutoff.Set
}

// lose restores one of the copies, and drops those that were made after it.
func (w *tailWorld) lose() {
	i := rapid.IntRange(0, len(w.saves)-1).Draw(w.rt, "back to")
	w.saves[i]()
	w.saves = w.saves[:i+1]
}

// tailReplica is a process with a validator that has followed it from its start.
type tailReplica struct {
	*sessiontest.Replica
	binding   *binding.Service
	validator *cutoff.Set
}

// tailClient is a session as its client knows it.
type tailClient struct {
	refresh, access auth.Secret
	gone            bool
	// endedAt are the replicas that acknowledged its end.
	endedAt []*tailReplica
}

func (w *tailWorld) start() *tailReplica {
	r := &tailReplica{Replica: w.NewReplica(), validator: cutoff.NewSet()}
	c := w.Config
	c.Store, c.Sessions, c.Minter = r.DB, r.Service, r.Minter
	r.binding = binding.NewService(c)
	return r
}

func (w *tailWorld) replica() *tailReplica {
	return w.replicas[rapid.IntRange(0, 1).Draw(w.rt, "replica")]
}

func (w *tailWorld) with(do func(*tailClient, *tailReplica)) func(*rapid.T) {
	return func(rt *rapid.T) {
		if n := len(w.clients); n > 0 {
			do(w.clients[rapid.IntRange(0, n-1).Draw(rt, "client")], w.replica())
		}
	}
}

// tell adds all cutoffs of a replica to a validator.
func (w *tailWorld) tell(to *cutoff.Set, from *tailReplica) {
	for _, c := range from.Cutoffs.Set().All() {
		to.Add(c, w.Clock.Now())
	}
}

// granted checks that the validator of a replica accepts a granted access token.
func (w *tailWorld) granted(r *tailReplica, access auth.Secret, what string) {
	w.tell(r.validator, r)
	if hits := r.validator.Hitting(tokenOf(w.rt, access)); len(hits) > 0 {
		w.rt.Fatalf("%s: a validator refuses the granted token %+v by %+v", what, tokenOf(w.rt, access), hits)
	}
}

// tokenOf returns the claims that cutoffs compare.
func tokenOf(t interface{ Fatal(...any) }, access auth.Secret) cutoff.Token {
	var (
		header struct{ KID string }
		claims struct {
			Session  string `json:"sid"`
			Ver      int64
			ClientID string `json:"client_id"`
			Epoch    int64
		}
	)
	parts := strings.Split(access.Reveal(), ".")
	for i, into := range []any{&header, &claims} {
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err == nil {
			err = json.Unmarshal(b, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return cutoff.Token{Session: claims.Session, Ver: claims.Ver, App: claims.ClientID, Epoch: claims.Epoch, KID: header.KID}
}

// tolerate checks that a client can log in again after the error.
func (w *tailWorld) tolerate(err error, what string) {
	switch auth.CodeOf(err) {
	case auth.SessionRevoked, auth.RefreshExpired, auth.RefreshInvalid, auth.TokenInvalid, auth.TokenExpired,
		auth.BindingDelayed, auth.TicketInvalid, auth.AlreadyBound, auth.PersonTaken:
	default:
		w.rt.Fatalf("%s: error = %v, want one after which the client can log in again", what, err)
	}
}

func (w *tailWorld) logIn(r *tailReplica) {
	g, err := r.Service.Exchange(w.t.Context(), session.ExchangeRequest{
		ClientID: sessiontest.AppID, Code: auth.Secret(w.Simulator.NewCode(w.user)),
	})
	if err != nil {
		w.rt.Fatalf("log-in: error = %v", err)
	}
	w.granted(r, g.AccessToken, "log in")
	// More clients would only take longer.
	if w.clients = append(w.clients, &tailClient{refresh: g.RefreshToken, access: g.AccessToken}); len(w.clients) > 5 {
		w.clients = w.clients[1:]
	}
}

// refresh reports whether the client got new tokens.
func (w *tailWorld) refresh(c *tailClient, r *tailReplica) bool {
	g, err := r.Service.Refresh(w.t.Context(), session.RefreshRequest{ClientID: sessiontest.AppID, RefreshToken: c.refresh})
	if auth.CodeOf(err) == auth.RateLimited {
		return false
	}
	if err != nil {
		w.tolerate(err, "refresh")
		c.gone = true
		return false
	}
	w.granted(r, g.AccessToken, "refresh")
	c.refresh, c.access = g.RefreshToken, g.AccessToken
	if slices.Contains(c.endedAt, r) {
		w.rt.Fatal("a session was refreshed whose end this replica acknowledged")
	}
	return true
}

func (w *tailWorld) bind(c *tailClient, r *tailReplica) {
	who := rapid.SampledFrom([]auth.Person{w.LiLei, w.HanMeimei}).Draw(w.rt, "person")
	g, err := r.binding.Bind(w.t.Context(), binding.Request{
		AccessToken: c.access, Method: auth.BindTicket, Ticket: w.Ticket(who), Network: "192.0.2.1/32",
	})
	w.changed(c, r, g, err, "bind")
}

func (w *tailWorld) unbind(c *tailClient, r *tailReplica) {
	g, err := r.binding.Unbind(w.t.Context(), c.access, "req")
	w.changed(c, r, g, err, "unbind")
}

func (w *tailWorld) changed(c *tailClient, r *tailReplica, g binding.Grant, err error, what string) {
	if err != nil {
		w.tolerate(err, what)
		return
	}
	if g.AccessToken != "" {
		w.granted(r, g.AccessToken, what)
		c.access = g.AccessToken
	}
}

func (w *tailWorld) logOut(c *tailClient, r *tailReplica) {
	_, err := r.Service.Revoke(w.t.Context(), session.RevokeRequest{ClientID: sessiontest.AppID, Token: c.refresh})
	if err != nil {
		w.rt.Fatalf("log-out: error = %v", err)
	}
	// The end of a lost session is not remembered, nor that of a session that is refused
	// before it is looked up.
	if r.Cutoffs.Set().Hits(cutoff.Token{Session: tokenOf(w.rt, c.access).Session, Ver: 1 << 40}) {
		c.endedAt = append(c.endedAt, r)
	}
}

func (w *tailWorld) revokeApp() {
	r := w.replica()
	if _, err := r.Revoker.Revoke(w.t.Context(), session.RevocationRequest{Target: session.Target{AppID: sessiontest.AppID}, Reason: "a test", Actor: auth.ActorCLI}); err != nil {
		w.rt.Fatalf("revocation: error = %v", err)
	}
	for _, c := range w.clients {
		if !c.gone {
			c.endedAt = append(c.endedAt, r)
		}
	}
}

// retireKey retires the current key as compromised.
func (w *tailWorld) retireKey() {
	r := w.replica()
	key, err := r.Keys.CurrentSigningKey("ES256", w.Clock.Now())
	if errors.Is(err, token.ErrNoKey) {
		// It knows the retirement of more keys than it has read.
		w.catchUp(r)
		key, err = r.Keys.CurrentSigningKey("ES256", w.Clock.Now())
	}
	if err != nil {
		w.rt.Fatal(err)
	}
	_, err = r.Keeper.Retire(w.t.Context(), keyring.RetireRequest{KID: key.KID, Compromised: true, By: auth.AuditEvent{Actor: auth.ActorCLI, Reason: "a test"}})
	if code := auth.CodeOf(err); err != nil && code != auth.NotFound && code != auth.KeyInUse {
		w.rt.Fatalf("retirement of a key: error = %v", err)
	}
}

func (w *tailWorld) catchUp(r *tailReplica) {
	if err := r.Cutoffs.CatchUp(w.t.Context()); err != nil {
		w.rt.Fatal(err)
	}
	if err := r.Keeper.CatchUp(w.t.Context()); err != nil {
		w.rt.Fatal(err)
	}
}

func (w *tailWorld) restore(r *tailReplica) {
	w.catchUp(r)
	if err := r.Restorer.RestoreAll(w.t.Context()); err != nil {
		w.rt.Fatal(err)
	}
}

// restart replaces a replica. First it restores to the database what only this replica
// remembers: another test covers a loss that no replica survives.
func (w *tailWorld) restart() {
	w.settle()
	i := rapid.IntRange(0, 1).Draw(w.rt, "stopped")
	gone := w.replicas[i]
	w.old = append(w.old, gone.validator)
	w.replicas[i] = w.start()
	for _, c := range w.clients {
		c.endedAt = slices.DeleteFunc(c.endedAt, func(r *tailReplica) bool { return r == gone })
		if c.gone || len(c.endedAt) > 0 {
			c.endedAt = append(c.endedAt, w.replicas[i])
		}
	}
}

// settle makes both replicas restore what they remember, and checks that all agree.
func (w *tailWorld) settle() {
	for range 2 { // in the second round each reads what the other restored
		for _, r := range w.replicas {
			w.restore(r)
		}
	}
	w.logIn(w.replicas[0])
	for _, c := range w.clients {
		if c.gone {
			continue
		}
		ended := len(c.endedAt) > 0
		for _, r := range w.replicas {
			if !w.refresh(c, r) {
				break
			}
			if ended {
				w.rt.Fatal("a session was refreshed whose end was acknowledged")
			}
			w.accepted(c.access)
		}
	}
	w.clients = slices.DeleteFunc(w.clients, func(c *tailClient) bool { return c.gone })
}

// accepted checks that all replicas and validators accept the token.
func (w *tailWorld) accepted(access auth.Secret) {
	for i, r := range w.replicas {
		w.tell(r.validator, r)
		if _, err := r.Verifier.Verify(w.t.Context(), access.Reveal()); err != nil {
			w.rt.Fatalf("replica %d refuses the token: %v", i, err)
		}
		for _, v := range append([]*cutoff.Set{r.validator}, w.old...) {
			if hits := v.Hitting(tokenOf(w.rt, access)); len(hits) > 0 {
				w.rt.Fatalf("a validator refuses the token %+v by %+v", tokenOf(w.rt, access), hits)
			}
		}
	}
}
