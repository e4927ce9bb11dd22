package postgres_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/db/postgres"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/servicekey"
	"github.com/yufu-auth/yufu/pkg/session"
	"github.com/yufu-auth/yufu/pkg/shard/shardtest"
)

// pair is a bed on a primary that waits for a standby at every commit.
type pair struct {
	*bed
	primary, standby *pgtest.Server
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{primary: pgtest.NewServer(t)}
	p.standby = p.primary.Standby(t)
	dsn := p.primary.DSN("postgres")
	p.bed = &bed{t: t, store: openStore(t, dsn+"&pool_max_conns=8"), raw: openRaw(t, dsn), dsn: dsn}
	if err := p.store.Migrate(t.Context(), shardtest.Sealed); err != nil {
		t.Fatal(err)
	}
	p.addApp()
	return p
}

// silence stops the standby: from now on commits wait for it.
func (p *pair) silence() {
	p.t.Helper()
	if err := p.standby.Kill(); err != nil {
		p.t.Fatal(err)
	}
}

// committing returns the number of commits that wait for the standby.
func (p *pair) committing() int {
	p.t.Helper()
	return p.number(p.raw, `select count(*) from pg_stat_activity where wait_event = 'SyncRep'`)
}

func (p *pair) untilCommitting(n int) {
	p.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); p.committing() != n; {
		if time.Now().After(deadline) {
			p.t.Fatalf("%d commits wait for the standby, want %d", p.committing(), n)
		}
	}
}

// interrupt makes a call and ends its context while its commit waits for the standby. It
// returns the call's error and whether the commit waited.
func (p *pair) interrupt(call func(ctx context.Context) error) (waited bool, err error) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(p.t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- call(ctx) }()
	for deadline := time.Now().Add(30 * time.Second); ; {
		select {
		case err := <-done:
			return false, err
		default:
		}
		if p.committing() > 0 {
			cancel()
			err := <-done
			p.untilCommitting(0)
			return true, err
		}
		if time.Now().After(deadline) {
			p.t.Fatal("the call neither waits for the standby nor returns")
		}
	}
}

// repeatable is a request whose repetition finds the work done.
type repeatable struct {
	name string
	// call is the request. again is its repetition if that differs.
	call, again func(ctx context.Context) error
	// done reports whether a store has the request's change.
	done func(ctx context.Context, s *postgres.Store) (bool, error)
}

func event(action auth.AuditAction) auth.AuditEvent {
	return auth.AuditEvent{At: now, Action: action, Actor: auth.ActorCLI}
}

// login logs in a new user.
func (p *pair) login(name string) auth.Session {
	p.t.Helper()
	x := exchangeParams()
	x.Account.Subject = "o-" + name
	g, err := p.store.Exchange(p.t.Context(), x)
	if err != nil {
		p.t.Fatal(err)
	}
	return g.Session
}

func (p *pair) newPerson(name string) auth.PersonRecord {
	p.t.Helper()
	r, err := p.store.CreatePerson(p.t.Context(), person.Draft{ID: newID(), ExternalID: name, Name: &name, Source: auth.PersonByAdmin},
		event(auth.AuditPersonCreated))
	if err != nil {
		p.t.Fatal(err)
	}
	return r
}

// must fails the test if a step of its preparation failed.
func (p *pair) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// sessions returns the requests about sessions.
func (p *pair) sessions() []repeatable {
	ended := func(id uuid.UUID) func(context.Context, *postgres.Store) (bool, error) {
		return func(ctx context.Context, s *postgres.Store) (bool, error) {
			st, err := s.Session(ctx, id)
			return !st.Session.EndedAt.IsZero(), err
		}
	}
	logout, rotated, expired, bound, unbound := p.login("logout"), p.login("rotated"), p.login("expired"), p.login("bound"), p.login("unbound")
	lost, deployment := p.login("lost"), p.deployment()
	person, other := p.newPerson("bound"), p.newPerson("unbound")
	_, err := p.store.Bind(p.t.Context(), bindTo(&unbound, other.ID, unbound.Ver))
	p.must(err)
	p.exec(p.raw, `update sessions set expires_at = $2, idle_expires_at = $2 where id = $1`, expired.ID, now)
	return []repeatable{
		{
			name: "log-out", done: ended(logout.ID),
			call: func(ctx context.Context) error { return p.store.End(ctx, endParams(logout.ID)) },
		},
		{
			name: "refresh",
			call: func(ctx context.Context) error {
				_, err := p.store.Refresh(ctx, refreshParams(rotated.ID, rotated.Generation))
				return err
			},
			done: func(ctx context.Context, s *postgres.Store) (bool, error) {
				st, err := s.Session(ctx, rotated.ID)
				return st.Session.Generation == rotated.Generation+1, err
			},
		},
		{
			name: "log-out of a session that is gone",
			call: func(ctx context.Context) error {
				_, err := p.store.DeleteExpired(ctx, now.Add(time.Second), now, 1000)
				return err
			},
			again: func(ctx context.Context) error { return p.store.End(ctx, endParams(expired.ID)) },
			done: func(ctx context.Context, s *postgres.Store) (bool, error) {
				_, err := s.Session(ctx, expired.ID)
				return errors.Is(err, auth.SessionRevoked), nil
			},
		},
		{
			name: "restore what is remembered",
			call: func(ctx context.Context) error {
				_, err := p.store.RestoreCutoffs(ctx, restoreParams(deployment, verOf(lost, 4)))
				return err
			},
			done: func(ctx context.Context, s *postgres.Store) (bool, error) {
				st, err := s.Session(ctx, lost.ID)
				return st.Session.Ver == 5, err
			},
		},
		{
			name: "bind",
			call: func(ctx context.Context) error {
				_, err := p.store.Bind(ctx, bindTo(&bound, person.ID, bound.Ver))
				return err
			},
			again: func(ctx context.Context) error {
				_, err := p.store.Bind(ctx, bindTo(&bound, person.ID, bound.Ver+1))
				return err
			},
			done: func(ctx context.Context, s *postgres.Store) (bool, error) {
				st, err := s.Session(ctx, bound.ID)
				return st.Session.Bound(), err
			},
		},
		{
			name: "unbind",
			call: func(ctx context.Context) error {
				_, err := p.store.Unbind(ctx, unbindFrom(&unbound, unbound.Ver+1))
				return err
			},
			again: func(ctx context.Context) error {
				_, err := p.store.Unbind(ctx, unbindFrom(&unbound, unbound.Ver+2))
				return err
			},
			done: func(ctx context.Context, s *postgres.Store) (bool, error) {
				st, err := s.Session(ctx, unbound.ID)
				return !st.Session.Bound() && st.Session.Ver == unbound.Ver+2, err
			},
		},
	}
}

func bindTo(s *auth.Session, person uuid.UUID, ver int64) binding.BindParams {
	return binding.BindParams{
		Session: s.ID, Ver: ver, Target: binding.Target{Person: person}, Method: auth.BindFacts,
		Second: auth.SecondRefused, Now: now, Event: event(auth.AuditBound),
	}
}

func unbindFrom(s *auth.Session, ver int64) binding.UnbindParams {
	return binding.UnbindParams{Session: s.ID, Ver: ver, Now: now, Event: event(auth.AuditUnbound)}
}

// identities returns admins' requests about users.
func (p *pair) identities() []repeatable {
	make1 := func(name string, prepare func(c person.IdentityChange), change func(*postgres.Store, context.Context, person.IdentityChange) (person.IdentityRecord, error),
		to uuid.UUID, done func(*person.IdentityRecord) bool,
	) repeatable {
		c := person.IdentityChange{
			Identity: p.login(name).Identity, Person: to, Second: auth.SecondJoins, Now: now, Event: event(auth.AuditIdentityDisabled),
		}
		prepare(c)
		return repeatable{
			name: name,
			call: func(ctx context.Context) error { _, err := change(p.store, ctx, c); return err },
			done: func(ctx context.Context, s *postgres.Store) (bool, error) {
				i, err := s.Identity(ctx, c.Identity, nil)
				return done(&i), err
			},
		}
	}
	ctx, nothing, lilei := p.t.Context(), func(person.IdentityChange) {}, p.newPerson("by an admin").ID
	return []repeatable{
		make1("disable an identity", nothing, (*postgres.Store).DisableIdentity, uuid.Nil,
			func(i *person.IdentityRecord) bool { return i.Disabled }),
		make1("enable an identity", func(c person.IdentityChange) { _, err := p.store.DisableIdentity(ctx, c); p.must(err) },
			(*postgres.Store).EnableIdentity, uuid.Nil, func(i *person.IdentityRecord) bool { return !i.Disabled }),
		make1("erase an identity", nothing, (*postgres.Store).EraseIdentity, uuid.Nil,
			func(i *person.IdentityRecord) bool { return !i.ErasedAt.IsZero() }),
		make1("bind an identity", nothing, (*postgres.Store).BindIdentity, lilei,
			func(i *person.IdentityRecord) bool { return i.Person == lilei }),
		make1("unbind an identity", func(c person.IdentityChange) { _, err := p.store.BindIdentity(ctx, c); p.must(err) },
			(*postgres.Store).UnbindIdentity, lilei, func(i *person.IdentityRecord) bool { return i.Person == uuid.Nil }),
	}
}

// others returns the requests about persons, apps and keys.
func (p *pair) others() []repeatable {
	ctx := p.t.Context()
	disabled, enabled, renamed := p.newPerson("disabled"), p.newPerson("enabled"), p.newPerson("renamed")
	_, err := p.store.DisablePerson(ctx, enabled.ID, event(auth.AuditPersonDisabled))
	p.must(err)
	recorded := func(id uuid.UUID, done func(*auth.PersonRecord) bool) func(context.Context, *postgres.Store) (bool, error) {
		return func(ctx context.Context, s *postgres.Store) (bool, error) {
			r, err := s.Person(ctx, id)
			return done(&r), err
		}
	}
	app := func(id string, disabled bool) func(context.Context, *postgres.Store) (bool, error) {
		return func(ctx context.Context, s *postgres.Store) (bool, error) {
			a, err := s.App(ctx, id)
			return a.Disabled == disabled, err
		}
	}
	const off, on = "wxoff", "wxon"
	for _, id := range []string{off, on} {
		p.must(p.store.AddApp(ctx, auth.App{ID: id, Platform: auth.PlatformWeChat, SealedCredentials: map[string][]byte{auth.CredentialAppSecret: []byte("s")}}, event(auth.AuditAppAdded)))
	}
	_, err = p.store.DisableApp(ctx, on, event(auth.AuditAppDisabled))
	p.must(err)
	backEnd := servicekey.Key{ID: "k000000000000000", Name: "k", Scopes: []servicekey.Scope{servicekey.ScopeService}, Hash: sha256.Sum256([]byte("k")), CreatedAt: now}
	p.must(p.store.AddServiceKey(ctx, backEnd, event(auth.AuditServiceKeyAdded)))
	change := func(ctx context.Context, plan func(all []keyring.StoredKey) keyring.Change) error {
		_, err := p.store.ChangeKeys(ctx, now, func(all []keyring.StoredKey) (keyring.Change, error) { return plan(all), nil })
		return err
	}
	p.must(change(ctx, func([]keyring.StoredKey) keyring.Change {
		return keyring.Change{Add: []keyring.StoredKey{{
			KID: "kid", Use: keyring.UseAccess, Alg: "ES256", Sealed: []byte{1}, Public: []byte(`{"kty":"EC"}`), CreatedAt: now,
		}}}
	}))
	name, imported := "another name", "imported"
	return []repeatable{
		{
			name: "disable a person", done: recorded(disabled.ID, func(r *auth.PersonRecord) bool { return r.Disabled }),
			call: func(ctx context.Context) error {
				_, err := p.store.DisablePerson(ctx, disabled.ID, event(auth.AuditPersonDisabled))
				return err
			},
		},
		{
			name: "enable a person", done: recorded(enabled.ID, func(r *auth.PersonRecord) bool { return !r.Disabled }),
			call: func(ctx context.Context) error {
				_, err := p.store.EnablePerson(ctx, enabled.ID, event(auth.AuditPersonEnabled))
				return err
			},
		},
		{
			name: "update a person", done: recorded(renamed.ID, func(r *auth.PersonRecord) bool { return r.Name == name }),
			call: func(ctx context.Context) error {
				_, err := p.store.UpdatePerson(ctx, renamed.ID, person.Draft{Name: &name}, event(auth.AuditPersonUpdated))
				return err
			},
		},
		{
			name: "import a person",
			call: func(ctx context.Context) error {
				_, err := p.store.UpsertPersons(ctx, person.Upsert{Event: event(auth.AuditPersonsImported), Drafts: []person.Draft{
					{ID: newID(), ExternalID: imported, Name: &imported, Source: auth.PersonByAdmin},
				}})
				return err
			},
			done: func(ctx context.Context, s *postgres.Store) (bool, error) {
				found, err := s.Persons(ctx, person.Query{ExternalID: imported, Limit: 1})
				return len(found) == 1, err
			},
		},
		{
			name: "disable an app", done: app(off, true),
			call: func(ctx context.Context) error {
				_, err := p.store.DisableApp(ctx, off, event(auth.AuditAppDisabled))
				return err
			},
		},
		{
			name: "enable an app", done: app(on, false),
			call: func(ctx context.Context) error {
				_, err := p.store.EnableApp(ctx, on, event(auth.AuditAppEnabled))
				return err
			},
		},
		{
			name: "revoke a service key",
			call: func(ctx context.Context) error {
				_, err := p.store.RevokeServiceKey(ctx, backEnd.ID, false, event(auth.AuditServiceKeyEnded))
				return err
			},
			done: func(ctx context.Context, s *postgres.Store) (bool, error) {
				k, err := s.ServiceKey(ctx, backEnd.ID)
				return !k.RevokedAt.IsZero(), err
			},
		},
		{
			name: "retire a signing key",
			call: func(ctx context.Context) error {
				return change(ctx, func(all []keyring.StoredKey) (c keyring.Change) {
					if k := all[0]; k.RetiredAt.IsZero() {
						k.RetiredAt = now
						c.Update = []keyring.StoredKey{k}
					}
					return c
				})
			},
			done: func(ctx context.Context, s *postgres.Store) (bool, error) {
				all, err := s.Keys(ctx)
				return len(all) == 1 && !all[0].RetiredAt.IsZero(), err
			},
		},
	}
}

// A commit whose wait for the standby is interrupted is visible to all connections. It is
// lost when the standby takes over.
func TestRepeatedRequestIsDurable(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	requests := append(append(p.sessions(), p.identities()...), p.others()...)
	p.silence()
	for i := range requests {
		r := &requests[i]
		if r.again == nil {
			r.again = r.call
		}
		if waited, err := p.interrupt(r.call); !waited || err == nil {
			t.Errorf("%s: waited for the standby = %t, error = %v; want true and an error", r.name, waited, err)
		}
		// It becomes visible shortly after its wait has ended.
		until(t, "the commit of "+r.name+" stands", func() bool {
			done, err := r.done(t.Context(), p.store)
			p.must(err)
			return done
		})
		if waited, err := p.interrupt(r.again); !waited || err == nil {
			t.Errorf("%s repeated: waited for the standby = %t, error = %v; want an error while the standby is silent", r.name, waited, err)
		}
	}
	p.must(p.standby.Start())
	for _, r := range requests {
		if err := r.again(t.Context()); err != nil {
			t.Errorf("%s with the standby back: error = %v", r.name, err)
		}
	}
	p.must(p.primary.Kill())
	p.must(p.standby.Promote(t.Context()))
	successor := openStore(t, p.standby.DSN("postgres"))
	for _, r := range requests {
		if done, err := r.done(t.Context(), successor); !done || err != nil {
			t.Errorf("%s succeeded but its change is lost (error %v)", r.name, err)
		}
	}
}

// pgx reports success for a commit whose wait was cancelled on the server.
func TestCancelledCommit(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	ended, refreshed := p.login("ended"), p.login("refreshed")
	p.silence()
	for name, call := range map[string]func(ctx context.Context) error{
		"log-out": func(ctx context.Context) error { return p.store.End(ctx, endParams(ended.ID)) },
		"log-in":  func(ctx context.Context) error { _, err := p.store.Exchange(ctx, exchangeParams()); return err },
		"refresh": func(ctx context.Context) error {
			_, err := p.store.Refresh(ctx, refreshParams(refreshed.ID, refreshed.Generation))
			return err
		},
		"confirmation": p.store.Confirm,
	} {
		done := make(chan error, 1)
		go func() { done <- call(t.Context()) }()
		p.untilCommitting(1)
		p.exec(p.raw, `select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'`)
		if err := <-done; !errors.Is(err, auth.StorageUnavailable) {
			t.Errorf("%s: error = %v, want %v", name, err, auth.StorageUnavailable)
		}
	}
	p.must(p.standby.Start())
	if err := p.store.Confirm(t.Context()); err != nil {
		t.Errorf("Confirm() on the same connection, with the standby back: error = %v", err)
	}
}

func TestWaitingWritesLeaveReads(t *testing.T) {
	t.Parallel()
	const share = 6 // of the 8 connections
	p := newPair(t)
	s := p.login("reader")
	var logins []session.ExchangeParams
	for i := range 2 * share {
		x := exchangeParams()
		x.Account.Subject = fmt.Sprint("o-", i)
		logins = append(logins, x)
	}
	p.silence()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var waiting sync.WaitGroup
	for _, x := range logins {
		waiting.Go(func() {
			if _, err := p.store.Exchange(ctx, x); !errors.Is(err, context.Canceled) {
				t.Errorf("Exchange() error = %v, want %v", err, context.Canceled)
			}
		})
	}
	p.untilCommitting(share)
	reading, done := context.WithTimeout(t.Context(), 30*time.Second)
	defer done()
	if _, err := p.store.Session(reading, s.ID); err != nil {
		t.Errorf("Session() error = %v", err)
	}
	if err := p.store.Ping(reading); err != nil {
		t.Errorf("Ping() error = %v", err)
	}
	if n := p.committing(); n != share {
		t.Errorf("%d commits wait for the standby, want %d", n, share)
	}
	cancel()
	waiting.Wait()
	p.store.Close() // returns: no write delays a shutdown
}
