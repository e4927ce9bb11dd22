package storetest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/keyring"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/servicekey"
	"github.com/yufu-auth/yufu/pkg/session"
)

var cancelledTests = []test{
	{"a done context ends every call and writes nothing", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		before := f.counts(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for name, call := range f.calls(s) {
			if err := call(ctx); err != context.Canceled { //nolint:errorlint // as it is, not wrapped
				t.Errorf("%s: error = %v, want unwrapped context.Canceled", name, err)
			}
		}
		f.wantCounts(t, before, counts{})
		wantEqual(t, "stored", f.stored(t, s.ID), s)
	}},
	{"a passed deadline returns context.DeadlineExceeded", func(t *testing.T, f *fixture) {
		s := f.exchange(t, "o-1", t0)
		before := f.counts(t)
		ctx, cancel := context.WithTimeout(t.Context(), -1)
		defer cancel()
		for name, call := range f.calls(s) {
			if err := call(ctx); err != context.DeadlineExceeded { //nolint:errorlint // as it is, not wrapped
				t.Errorf("%s: error = %v, want unwrapped context.DeadlineExceeded", name, err)
			}
		}
		f.wantCounts(t, before, counts{})
	}},
	{"a call cancelled at any moment is done completely or not at all", func(t *testing.T, f *fixture) {
		f.cancelledAtAnyMoment(t, func() (func(context.Context) error, func() bool) {
			x := f.exchange(t, "o-1", t0)
			return func(ctx context.Context) error { return f.Store.End(ctx, endParams(x, t0)) },
				func() bool { return !f.stored(t, x.ID).EndedAt.IsZero() }
		})
	}},
}

// cancelledAtAnyMoment cancels calls that end one session each: shortly after the start,
// shortly before the end, and at moments between. prepare returns a call and a function
// that reports whether it took effect.
//
// A call that returns because it was cancelled may still take effect, even a moment
// later, because the server must first learn of the cancellation. So this checks the
// result of a single query, not changes since an earlier query.
func (f *fixture) cancelledAtAnyMoment(t *testing.T, prepare func() (call func(context.Context) error, done func() bool)) {
	t.Helper()
	call, _ := prepare()
	began := time.Now()
	if err := call(t.Context()); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	const rounds = 100
	for i := range rounds {
		call, done := prepare()
		ctx, cancel := context.WithCancel(t.Context())
		timer := time.AfterFunc(took*time.Duration(i)/rounds, cancel)
		err := call(ctx)
		timer.Stop()
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if err == nil && !done() {
			t.Fatal("the call returned no error and had no effect")
		}
		var ended, withCutoff, cutoffs, audit int
		err = f.DB.QueryRowContext(t.Context(), `
select e.n, w.n, c.n, a.n
from (select count(*) as n from sessions where ended_at is not null) e,
  (select count(*) as n from cutoffs c join sessions s on s.id = c.session_id where s.ended_at is not null and c.ver = 0) w,
  (select count(*) as n from cutoffs) c, (select count(*) as n from audit where session_id is not null) a`).Scan(&ended, &withCutoff, &cutoffs, &audit)
		if err != nil {
			t.Fatal(err)
		}
		if !f.Distributed && (withCutoff != ended || cutoffs != ended || audit != ended) {
			t.Fatalf("%d sessions ended, with %d of %d cutoffs and %d audit events", ended, withCutoff, cutoffs, audit)
		}
	}
	// A call that was cancelled may still be at work, and did not apply its cutoff. This one
	// waits for the locks of the others, and applies all.
	call, _ = prepare()
	if err := call(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "sessions that ended without one cutoff and one audit event each", f.number(t, `
select count(*)
from sessions s left join (select session_id, count(*) as n from cutoffs group by session_id) c on c.session_id = s.id
  left join (select session_id, count(*) as n from audit group by session_id) a on a.session_id = s.id
where s.ended_at is not null and (coalesce(c.n, 0) <> 1 or coalesce(a.n, 0) <> 1)`), 0)
}

// calls returns a call of every method of the store, on the session where possible.
func (f *fixture) calls(s auth.Session) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"App":       func(ctx context.Context) error { _, err := f.Store.App(ctx, appA); return err },
		"AppsState": func(ctx context.Context) error { _, _, err := f.Store.AppsState(ctx); return err },
		"Apps":      func(ctx context.Context) error { _, err := f.Store.Apps(ctx); return err },
		"AddApp": func(ctx context.Context) error {
			return f.Store.AddApp(ctx, auth.App{ID: "wx1", Platform: "p", SealedCredentials: map[string][]byte{auth.CredentialAppSecret: []byte("s")}}, event(auth.AuditAppAdded, t0))
		},
		"UpdateApp": func(ctx context.Context) error {
			_, err := f.Store.UpdateApp(ctx, appA, app.Change{SealedCredentials: map[string][]byte{auth.CredentialAppSecret: []byte("s")}}, event(auth.AuditAppUpdated, t0))
			return err
		},
		"DisableApp": func(ctx context.Context) error {
			_, err := f.Store.DisableApp(ctx, appA, event(auth.AuditAppDisabled, t0))
			return err
		},
		"EnableApp": func(ctx context.Context) error {
			_, err := f.Store.EnableApp(ctx, appA, event(auth.AuditAppEnabled, t0))
			return err
		},
		"Exchange": func(ctx context.Context) error {
			_, err := f.Store.Exchange(ctx, params(appA, "o-2", t0))
			return err
		},
		"Refresh":         func(ctx context.Context) error { _, err := f.refresh(ctx, s.ID, 1, t0); return err },
		"Refresh (ahead)": func(ctx context.Context) error { _, err := f.refresh(ctx, s.ID, 5, t0); return err },
		"Confirm":         func(ctx context.Context) error { return f.Store.Confirm(ctx) },
		"End":             func(ctx context.Context) error { return f.Store.End(ctx, endParams(s, t0)) },
		"Session":         func(ctx context.Context) error { _, err := f.Store.Session(ctx, s.ID); return err },
		"DeleteExpired": func(ctx context.Context) error {
			_, err := f.Store.DeleteExpired(ctx, t0.Add(2*maxTTL), t0, 10)
			return err
		},
		"Keys":        func(ctx context.Context) error { _, err := f.Store.Keys(ctx); return err },
		"KeysVersion": func(ctx context.Context) error { _, err := f.Store.KeysVersion(ctx); return err },
		"ChangeKeys": func(ctx context.Context) error {
			_, err := f.Store.ChangeKeys(ctx, t0, func([]keyring.StoredKey) (keyring.Change, error) {
				return keyring.Change{Add: []keyring.StoredKey{key("k", t0)}}, nil
			})
			return err
		},
		"Revoke": func(ctx context.Context) error {
			_, err := f.Store.Revoke(ctx, revokeParams(session.Target{Identity: s.Identity}, t0))
			return err
		},
		"Revoke (all)": func(ctx context.Context) error {
			_, err := f.Store.Revoke(ctx, revokeParams(session.Target{All: true}, t0))
			return err
		},
		"Cutoffs": func(ctx context.Context) error { _, err := f.Store.Cutoffs(ctx, 0, 10); return err },
		"Listen":  func(ctx context.Context) error { return f.Store.Listen(ctx, func() {}) },
		"AddServiceKey": func(ctx context.Context) error {
			return f.Store.AddServiceKey(ctx, serviceKey("k", t0), event(auth.AuditServiceKeyAdded, t0))
		},
		"ServiceKey":  func(ctx context.Context) error { _, err := f.Store.ServiceKey(ctx, "k"); return err },
		"ServiceKeys": func(ctx context.Context) error { _, err := f.Store.ServiceKeys(ctx); return err },
		"RevokeServiceKey": func(ctx context.Context) error {
			_, err := f.Store.RevokeServiceKey(ctx, "k", true, event(auth.AuditServiceKeyEnded, t0))
			return err
		},
		"FirstPinServiceKey": func(ctx context.Context) error {
			_, err := f.Store.FirstPinServiceKey(ctx, "k", event(auth.AuditServiceKeyPin, t0))
			return err
		},
		"PinServiceKey": func(ctx context.Context) error {
			_, err := f.Store.PinServiceKey(ctx, "k", appA, func(servicekey.Key) error { return nil }, event(auth.AuditServiceKeyPin, t0))
			return err
		},
		"TouchServiceKey": func(ctx context.Context) error { return f.Store.TouchServiceKey(ctx, "k", t0) },
		"Bind": func(ctx context.Context) error {
			_, err := f.Store.Bind(ctx, bindParams(s, newID(), t0))
			return err
		},
		"Unbind":          func(ctx context.Context) error { _, err := f.Store.Unbind(ctx, unbindParams(s, t0)); return err },
		"Person":          func(ctx context.Context) error { _, err := f.Store.Person(ctx, newID()); return err },
		"FactKey":         func(ctx context.Context) error { _, err := f.Store.FactKey(ctx); return err },
		"AddFactKey":      func(ctx context.Context) error { _, err := f.Store.AddFactKey(ctx, []byte("k"), t0); return err },
		"Candidate":       func(ctx context.Context) error { _, err := f.Store.Candidate(ctx, "no", mac(1)); return err },
		"PhoneCandidate":  func(ctx context.Context) error { _, err := f.Store.PhoneCandidate(ctx, "+8613800001001"); return err },
		"ShardKey":        func(ctx context.Context) error { _, err := f.Store.ShardKey(ctx); return err },
		"PlatformAccount": func(ctx context.Context) error { _, err := f.Store.PlatformAccount(ctx, s.Identity); return err },
		"Ticket":          func(ctx context.Context) error { _, err := f.Store.Ticket(ctx, [32]byte{1}); return err },
		"AddTicket": func(ctx context.Context) error {
			return f.Store.AddTicket(ctx, person.Ticket{CreatedAt: t0, ExpiresAt: t0}, event(auth.AuditTicketMinted, t0))
		},
		"Reserve": func(ctx context.Context) error {
			_, err := f.Store.Reserve(ctx, attemptKeys(), t0, event("", t0))
			return err
		},
		"Refund": func(ctx context.Context) error {
			return f.Store.Refund(ctx, binding.Reservation{Counted: []auth.Attempts{{AttemptKey: attemptKeys()[0]}}})
		},
		"RecordRefusal": func(ctx context.Context) error {
			return f.Store.RecordRefusal(ctx, event(auth.AuditBindingRefused, t0))
		},
		"CreatePerson": func(ctx context.Context) error {
			_, err := f.Store.CreatePerson(ctx, person.Draft{ID: newID()}, event(auth.AuditPersonCreated, t0))
			return err
		},
		"PlatformToken": func(ctx context.Context) error { _, err := f.Store.PlatformToken(ctx, appA); return err },
		"LeasePlatformToken": func(ctx context.Context) error {
			_, _, err := f.Store.LeasePlatformToken(ctx, leaseParams(newID(), t0))
			return err
		},
		"ForcePlatformToken": func(ctx context.Context) error {
			_, err := f.Store.ForcePlatformToken(ctx, forceParams(newID(), t0))
			return err
		},
		"KeepPlatformToken": func(ctx context.Context) error {
			_, err := f.Store.KeepPlatformToken(ctx, appA, newID(), platformToken)
			return err
		},
		"EndPlatformTokenLease": func(ctx context.Context) error { return f.Store.EndPlatformTokenLease(ctx, appA, newID()) },
	}
}

// hostile texts that the domain accepts. A store must keep them unchanged.
var hostile = []string{
	`'; DROP TABLE sessions; --`, `"`, `\`, `\x00`, `%s%d%n`, `$1`, `?`, `:name`, `{}`, `[]`, `null`, "a\tb",
	"鱼符 🐟👨‍👩‍👧‍👦", "e\u0301", strings.Repeat("长", 64), " leading and trailing ", "\u2028", "\ufffd",
}

// refusedText lists texts that the domain refuses before they reach a store.
var refusedText = []string{"\x00", "a\x00b", "\xff", "\xc3\x28", "\xed\xa0\x80"}

var hostileTests = []test{
	{"text that the domain accepts is stored unchanged", func(t *testing.T, f *fixture) {
		for _, text := range hostile {
			x := params(appA, "o"+text, t0)
			x.Device, x.Account.UnionID = text, text
			g, err := f.Store.Exchange(t.Context(), x)
			if err != nil {
				t.Fatalf("text %q: error = %v", text, err)
			}
			wantEqual(t, "device", g.Session.Device, text)
			wantEqual(t, "stored", f.stored(t, g.Session.ID), g.Session)
			wantEqual(t, "openid", f.text(t, `select subject from identities where uuid = ?`, g.Session.Identity.String()), "o"+text)
			wantEqual(t, "unionid", f.text(t, `select unionid from identities where uuid = ?`, g.Session.Identity.String()), text)
			e := endParams(g.Session, t0)
			e.Event.Reason, e.Event.RequestID, e.Event.Detail = text, text, map[string]any{"note": text}
			if err := f.Store.End(t.Context(), e); err != nil {
				t.Fatalf("text %q: error = %v", text, err)
			}
			wantEqual(t, "reason", f.text(t, `select reason from audit where session_id = ?`, g.Session.ID.String()), text)
		}
		wantEqual(t, "sessions", f.counts(t).Sessions, len(hostile))
	}},
	{"distinct texts are distinct accounts", func(t *testing.T, f *fixture) {
		before := f.counts(t)
		for _, openID := range []string{"e\u0301", "\u00e9", "E", "e", "e ", " e"} {
			f.exchange(t, openID, t0)
		}
		f.wantCounts(t, before, counts{Identities: 6, Sessions: 6})
	}},
	{"text that the domain refuses is never written partly", func(t *testing.T, f *fixture) {
		for _, text := range refusedText {
			before := f.counts(t)
			x := params(appA, "o-"+newID().String(), t0)
			x.Device = text
			_, err := f.Store.Exchange(t.Context(), x)
			if err != nil {
				f.wantCounts(t, before, counts{})
				wantCode(t, err, auth.Internal)
				continue
			}
			f.wantCounts(t, before, counts{Identities: 1, Sessions: 1})
		}
	}},
	{"a refused value is not quoted in the error", func(t *testing.T, f *fixture) {
		const marker = "THE-VALUE-ITSELF"
		x := params(appA, marker+"\xff", t0)
		x.SealedSessionKey = []byte(marker)
		if _, err := f.Store.Exchange(t.Context(), x); err != nil && strings.Contains(err.Error(), marker) {
			t.Errorf("error quotes the value: %v", err)
		}
		// An id that already exists: a defect of the caller.
		x = params(appA, marker, t0)
		if _, err := f.Store.Exchange(t.Context(), x); err != nil {
			t.Fatal(err)
		}
		_, err := f.Store.Exchange(t.Context(), x)
		wantCode(t, err, auth.Internal)
		for _, value := range []string{marker, x.NewSession.String()} {
			if strings.Contains(err.Error(), value) {
				t.Errorf("error quotes %q: %v", value, err)
			}
		}
	}},
	{"appids with sql in them are unknown", func(t *testing.T, f *fixture) {
		for _, text := range hostile {
			_, err := f.Store.App(t.Context(), text)
			wantCode(t, err, auth.AppUnknown)
			_, err = f.Store.Exchange(t.Context(), params(text, "o-1", t0))
			wantCode(t, err, auth.AppUnknown)
		}
	}},
}
