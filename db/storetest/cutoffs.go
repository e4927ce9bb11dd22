package storetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/session"
)

func (f *fixture) batch(t *testing.T, after int64, limit int) cutoffs.Batch {
	t.Helper()
	b, err := f.Store.Cutoffs(t.Context(), after, limit)
	wantCode(t, err, "")
	if !regexp.MustCompile(`^[0-9A-Za-z]{1,64}$`).MatchString(b.Timeline) {
		t.Errorf("Timeline = %q", b.Timeline)
	}
	if n := len(b.Cutoffs); n > 0 && b.Last < b.Cutoffs[n-1].ID {
		t.Errorf("Last = %d, but there is cutoff %d", b.Last, b.Cutoffs[n-1].ID)
	}
	return b
}

// listen listens until the test ends. It returns a function that waits for the next
// wake.
func (f *fixture) listen(t *testing.T) (woken func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	wake, ended := make(chan struct{}, 1000), make(chan error, 1)
	go func() {
		ended <- f.Store.Listen(ctx, func() { wake <- struct{}{} })
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != context.Canceled { //nolint:errorlint // as it is, not wrapped
			t.Errorf("Listen() error = %v, want unwrapped context.Canceled", err)
		}
	})
	return func() {
		t.Helper()
		select {
		case <-wake:
		case <-time.After(30 * time.Second):
			t.Fatal("the listener was not woken")
		}
	}
}

var cutoffTests = []test{
	{"a new database has no cutoffs and a named timeline", func(t *testing.T, f *fixture) {
		b := f.batch(t, 0, 10)
		if len(b.Cutoffs) != 0 || b.Last != 0 {
			t.Errorf("Cutoffs() of a new database = %+v", b)
		}
		wantEqual(t, "timeline", f.batch(t, 0, 10).Timeline, b.Timeline)
	}},
	{"each kind is read back unchanged", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		f.mustRevoke(t, session.Target{Session: s.ID}, t0, 1)
		f.mustRevoke(t, session.Target{AppID: appB}, t0, 0)
		f.plantCutoff(t, `insert into cutoffs (kind, kid, created_at) values ('key', 'k-1', ?)`, f.Time(t0))
		f.plantCutoff(t, `insert into cutoffs (kind, session_id, ver, created_at, expires_at) values ('session', ?, 7, ?, ?)`,
			s.ID.String(), f.Time(t0), f.Time(t0.Add(auth.CutoffRetention)))
		got := f.batch(t, 0, 10)
		ends := t0.Add(auth.CutoffRetention)
		first := got.Cutoffs[0].ID
		wantEqual(t, "cutoffs", got.Cutoffs, []auth.Cutoff{
			{ID: first, Kind: auth.CutoffSession, Session: s.ID, AppID: appA, ExpiresAt: ends},
			{ID: first + 1, Kind: auth.CutoffApp, AppID: appB, Epoch: 1, ExpiresAt: ends},
			{ID: first + 2, Kind: auth.CutoffKey, KID: "k-1"},
			{ID: first + 3, Kind: auth.CutoffSession, Session: s.ID, Ver: 7, ExpiresAt: ends},
		})
		wantEqual(t, "last", got.Last, first+3)
	}},
	{"pages continue each other", func(t *testing.T, f *fixture) {
		for range 5 {
			f.mustRevoke(t, session.Target{AppID: appA}, t0, 0)
		}
		var ids []int64
		after := int64(0)
		for {
			b := f.batch(t, after, 2)
			wantEqual(t, "last", b.Last, 5)
			if len(b.Cutoffs) == 0 {
				break
			}
			for _, c := range b.Cutoffs {
				ids = append(ids, c.ID)
			}
			after = ids[len(ids)-1]
		}
		wantEqual(t, "ids", ids, []int64{1, 2, 3, 4, 5})
		if b := f.batch(t, 99, 10); len(b.Cutoffs) != 0 {
			t.Errorf("Cutoffs() after the last id = %d cutoffs, want 0", len(b.Cutoffs))
		}
	}},
	{"the last id is known after the cutoffs are deleted", func(t *testing.T, f *fixture) {
		f.mustRevoke(t, session.Target{All: true}, t0, 0)
		before := f.batch(t, 0, 10)
		_, err := f.Store.DeleteExpired(t.Context(), t0, t0.Add(maxTTL), 10)
		wantCode(t, err, "")
		after := f.batch(t, 0, 10)
		wantEqual(t, "cutoffs left", len(after.Cutoffs), 0)
		wantEqual(t, "last", after.Last, before.Last)
		wantEqual(t, "timeline", after.Timeline, before.Timeline)
	}},
	{"every path that writes a cutoff wakes the listeners", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		woken, other := f.listen(t), f.listen(t)
		woken() // the listener is ready
		other()
		live := func() auth.Session { return f.exchange(t, "o-1", t0) }
		for _, path := range []struct {
			name string
			call func()
		}{
			{"log-out", func() { f.mustEnd(t, live(), t0) }},
			{"reuse", func() {
				s := live()
				f.mustRefresh(t, s.ID, 1, t0, session.Rotate)
				f.mustRefresh(t, s.ID, 2, t0, session.Rotate)
				f.refuse(t, s.ID, 1, t0, auth.RefreshReused)
			}},
			{"revoking a session", func() { f.mustRevoke(t, session.Target{Session: live().ID}, t0, 1) }},
			{"revoking an identity", func() { live(); f.mustRevoke(t, session.Target{Identity: s.Identity}, t0, 2) }},
			{"revoking an app", func() { f.mustRevoke(t, session.Target{AppID: appA}, t0, 0) }},
			{"disabling an app", func() {
				_, err := f.Store.DisableApp(t.Context(), appB, event(auth.AuditAppDisabled, t0))
				wantCode(t, err, "")
			}},
		} {
			path.call()
			t.Log(path.name)
			woken()
			other()
		}
	}},
	{"an answer names the states of the keys and the apps", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		last := f.batch(t, 0, 10)
		if last.Keys != f.keysVersion(t) {
			t.Errorf("Keys = %q, want that of KeysVersion(): %q", last.Keys, f.keysVersion(t))
		}
		policy := auth.Policy{Attributes: []string{"department"}}
		for _, step := range []struct {
			name       string
			call       func() error
			keys, apps bool // have changed
		}{
			{name: "nothing", call: func() error { return nil }},
			{name: "ending a session", call: func() error { f.mustEnd(t, s, t0); return nil }},
			{name: "an exchange", call: func() error { s = f.exchange(t, "o-1", t0); return nil }},
			{name: "a refresh", call: func() error { f.mustRefresh(t, s.ID, 1, t0, session.Rotate); return nil }},
			{name: "changing an app", apps: true, call: func() error {
				_, err := f.Store.UpdateApp(t.Context(), appA, app.Change{Policy: &policy}, event(auth.AuditAppUpdated, t0.Add(time.Second)))
				return err
			}},
			{name: "disabling an app", apps: true, call: func() error {
				_, err := f.Store.DisableApp(t.Context(), appB, event(auth.AuditAppDisabled, t0))
				return err
			}},
			{name: "adding a key", keys: true, call: func() error {
				f.changeKeys(t, t0, keyring.Change{Add: []keyring.StoredKey{key("k", t0)}})
				return nil
			}},
		} {
			wantCode(t, step.call(), "")
			b := f.batch(t, 0, 10)
			if keys, apps := b.Keys != last.Keys, b.Apps != last.Apps; keys != step.keys || apps != step.apps {
				t.Errorf("%s changed Keys = %t and Apps = %t, want %t and %t", step.name, keys, apps, step.keys, step.apps)
			}
			for after := range b.Last {
				if p := f.batch(t, after, 1); p.Keys != b.Keys || p.Apps != b.Apps || p.Deployment != b.Deployment {
					t.Errorf("%s: the answer after %d differs from that after 0", step.name, after)
				}
			}
			last = b
		}
	}},
	{"the cutoff of a deleted session still names its app", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		f.mustRevoke(t, session.Target{Session: s.ID}, t0, 1)
		f.exec(t, `delete from sessions where id = ?`, s.ID.String())
		wantEqual(t, "app of the cutoff", f.batch(t, 0, 10).Cutoffs[0].AppID, appA)
	}},
	{"a follower misses no concurrent end of a session", func(t *testing.T, f *fixture) {
		follower, err := cutoffs.Open(t.Context(), cutoffs.Config{
			Store: f.Store, MaxStaleness: 30 * time.Second, Clock: func() time.Time { return t0 },
			Log: slog.New(slog.DiscardHandler),
		})
		wantCode(t, err, "")
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { follower.Run(ctx) })
		defer running.Wait()
		defer stop()
		const n = 60
		sessions := make([]auth.Session, n)
		for i := range sessions {
			sessions[i] = f.exchange(t, fmt.Sprintf("o-%d", i), t0)
		}
		together(n, func(i int) {
			var err error
			if i%2 == 0 {
				err = f.Store.End(t.Context(), endParams(sessions[i], t0))
			} else {
				_, err = f.Store.Revoke(t.Context(), revokeParams(session.Target{Identity: sessions[i].Identity}, t0))
			}
			if err == nil {
				err = follower.CatchUp(t.Context())
			}
			// The replica knows what it ended before it answers.
			if hit := follower.Set().Hits(cutoff.Token{Session: sessions[i].ID.String(), Ver: 1}); err != nil || !hit {
				t.Errorf("session %d: Hits() = %v, %v; want true, nil", i, hit, err)
			}
		})
		page := follower.Page("", 1000, cutoffs.Subscriber{})
		wantEqual(t, "cutoffs passed on", len(page.Cutoffs), n)
	}},
	{"listening ends with its context", func(t *testing.T, f *fixture) {
		ctx, cancel := context.WithCancel(t.Context())
		err := f.Store.Listen(ctx, cancel)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Listen() error = %v", err)
		}
	}},
}
