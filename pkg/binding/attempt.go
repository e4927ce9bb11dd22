package binding

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
	"github.com/yufu-auth/yufu/pkg/platform"
	"github.com/yufu-auth/yufu/pkg/session"
)

// Limits of what a webhook is sent.
const (
	maxWebhookFields   = 32
	maxWebhookFieldLen = 1024 // characters of a value; a name has an attribute's
	maxPhoneCodeLen    = 512
)

// check refuses requests that are none, whatever the app's policy.
func (r *Request) check() error {
	fields := r.Method == auth.BindFacts || r.Method == auth.BindPhone || r.Method == auth.BindWebhook
	switch {
	case !slices.Contains(auth.BindingMethods(), r.Method):
		return auth.Invalid("method is facts, phone, ticket or webhook")
	case len(r.Fields) > 0 && !fields:
		return auth.Invalid("fields do not go with this method")
	case (r.Code != "") != (r.Method == auth.BindPhone):
		return auth.Invalid("code goes with the method phone, which needs it")
	case (r.Ticket != "") != (r.Method == auth.BindTicket):
		return auth.Invalid("ticket goes with the method ticket, which needs it")
	case len(r.Code.Reveal()) > maxPhoneCodeLen:
		return auth.Invalid("code is too long to be a phone code")
	case len(r.Fields) > maxWebhookFields:
		return auth.Invalid("there are too many fields")
	}
	for name, value := range r.Fields {
		switch {
		case name == "" || len(name) > auth.MaxAttributeNameLen || !auth.CleanText(name):
			return auth.Invalid("the name of a field is text of 1 to 64 bytes without control characters")
		case utf8.RuneCountInString(value) > maxWebhookFieldLen, r.Method == auth.BindWebhook && !cleanField(value):
			return auth.Invalid("a field is text of at most 1024 characters without control characters")
		}
	}
	return nil
}

// cleanField reports whether a webhook may get what is left of a value without the
// marks that come along when text is copied. Facts are checked by [person.NormalizeFact].
func cleanField(value string) bool {
	return utf8.ValidString(value) && auth.CleanText(strings.TrimSpace(auth.StripMarks(value)))
}

// attempt is a request on its way.
type attempt struct {
	s       *Service
	r       *Request
	session *auth.Session
	app     *auth.App
	now     time.Time

	// lookup is the MAC of the looked-up fact, and macs those of the others that
	// must match, by name.
	lookup []byte
	macs   map[string][]byte
	ticket [32]byte
	// admission is that of an attempt by facts.
	admission admission
}

// prepare checks the request against the policy. It asks nobody: what it refuses
// is malformed and counts as no attempt.
func (a *attempt) prepare() error {
	p := &a.app.Policy
	switch a.r.Method {
	case auth.BindFacts:
		if err := a.prepareFacts(p.Facts.Lookup, p.Facts.Check); err != nil {
			return err
		}
	case auth.BindPhone:
		return a.prepareFacts("", p.Phone.Check)
	case auth.BindTicket:
		var ok bool
		if a.ticket, ok = person.HashTicket(a.r.Ticket); !ok {
			return auth.TicketInvalid
		}
	case auth.BindWebhook:
		if a.s.c.Webhook == nil {
			return auth.BindingMethodDisabled
		}
	}
	return nil
}

// prepareFacts makes the MACs of the facts that the policy asks for, no more and
// no fewer.
func (a *attempt) prepareFacts(lookup string, check []string) error {
	want := check
	if lookup != "" {
		want = append([]string{lookup}, check...)
	}
	if len(a.r.Fields) != len(want) {
		return errFields(want)
	}
	a.macs = make(map[string][]byte, len(check))
	for _, name := range want {
		value, ok := a.r.Fields[name]
		if !ok {
			return errFields(want)
		}
		normalized, err := person.NormalizeFact(value)
		if err != nil {
			return err
		}
		mac := a.s.c.Facts.MAC(name, normalized)
		if name == lookup {
			a.lookup = mac
		} else {
			a.macs[name] = mac
		}
	}
	return nil
}

// errFields names the fields of the policy, which are no secret.
func errFields(want []string) error {
	if len(want) == 0 {
		return auth.Invalid("this app asks for no fields with this method")
	}
	return auth.Invalid("the fields that this app asks for are exactly: " + strings.Join(want, ", "))
}

// keys are what the attempt counts against: see [auth.AttemptKind].
func (a *attempt) keys() []auth.AttemptKey {
	keys := []auth.AttemptKey{auth.IdentityAttempts(a.session.Identity)}
	switch a.r.Method {
	case auth.BindFacts:
		keys = append(keys, auth.ValueAttempts(a.lookup), auth.AddressAttempts(a.r.Network, a.app.ID))
	case auth.BindWebhook:
		keys = append(keys, auth.AddressAttempts(a.r.Network, a.app.ID))
	}
	return keys
}

// event returns an audit event of the attempt.
func (a *attempt) event(action auth.AuditAction) auth.AuditEvent {
	return auth.AuditEvent{
		At: a.now, Action: action, Actor: auth.ActorBearer,
		AppID: a.session.AppID, Identity: a.session.Identity, Session: a.session.ID, RequestID: a.r.RequestID,
		Detail: map[string]any{"method": a.r.Method},
	}
}

// bind finds out who the user is and binds him.
func (a *attempt) bind(ctx context.Context) (Done, error) {
	b := BindParams{
		Session: a.session.ID, Ver: a.session.Ver, Method: a.r.Method,
		Second: a.app.Policy.Second(), Rebind: a.app.Policy.SelfUnbind, Now: a.now,
		Event: a.event(auth.AuditBound),
	}
	var err error
	switch a.r.Method {
	case auth.BindFacts:
		b.Target.Person, err = a.byFacts(ctx)
	case auth.BindPhone:
		b.Target, err = a.byPhone(ctx)
	case auth.BindTicket:
		b.Target.Person, err = a.byTicket(ctx)
		b.Ticket = &a.ticket
	case auth.BindWebhook:
		b.Target.Save, err = a.byWebhook(ctx)
	default:
		err = fmt.Errorf("binding: no method %q", a.r.Method)
	}
	if err != nil {
		return Done{}, err
	}
	return a.s.c.Store.Bind(ctx, b)
}

func (a *attempt) byFacts(ctx context.Context) (uuid.UUID, error) {
	c, err := a.s.c.Store.Candidate(ctx, a.app.Policy.Facts.Lookup, a.lookup)
	if err != nil {
		return uuid.Nil, err
	}
	// All of it is compared whatever the first comparison came to.
	found, match := sameMAC(c.Lookup, a.lookup), a.matches(&c)
	alone := 1
	if c.Shared {
		alone = 0
	}
	if found&match&alone != 1 {
		return uuid.Nil, auth.BindingNoMatch
	}
	return c.Person, nil
}

// matches returns 1 if every fact that is asked for is the candidate's, and 0
// otherwise, in a time that does not depend on which.
func (a *attempt) matches(c *Candidate) int {
	match := 1
	for name, mac := range a.macs {
		match &= sameMAC(c.Facts[name], mac)
	}
	return match
}

// noMAC stands for a fact that is not there, so that comparing takes as long.
var noMAC [32]byte

func sameMAC(have, want []byte) int {
	there := 1
	if len(have) != len(noMAC) {
		have, there = noMAC[:], 0
	}
	return subtle.ConstantTimeCompare(have, want) & there
}

func (a *attempt) byPhone(ctx context.Context) (Target, error) {
	phone, err := a.phone(ctx)
	if err != nil {
		return Target{}, err
	}
	if a.app.Policy.Phone.Create {
		id, err := uuid.NewV7()
		return Target{Phone: phone, New: id}, err
	}
	c, err := a.s.c.Store.PhoneCandidate(ctx, phone)
	if err != nil {
		return Target{}, err
	}
	if match := a.matches(&c); c.Person == uuid.Nil || match != 1 {
		return Target{}, auth.BindingNoMatch
	}
	return Target{Person: c.Person}, nil
}

// phone has the platform tell the user's number.
func (a *attempt) phone(ctx context.Context) (string, error) {
	provider, ok := a.s.c.Platforms[a.app.Platform].(platform.PhoneNumberProvider)
	if !ok {
		return "", &auth.Error{Code: auth.PlatformMisconfigured, Err: fmt.Errorf("app %s: this server gets no phone numbers from platform %q", a.app.ID, a.app.Platform)}
	}
	secret, err := a.s.c.Sealer.Open(a.app.SealedSecret, session.AppSecretAAD(a.app.ID))
	if err != nil {
		return "", &auth.Error{Code: auth.PlatformMisconfigured, Err: fmt.Errorf("app %s: AppSecret: %w", a.app.ID, err)}
	}
	openID, _, err := a.s.c.Store.PlatformAccount(ctx, a.session.Identity)
	if errors.Is(err, auth.NotFound) {
		return "", auth.SessionRevoked // it was erased a moment ago
	}
	if err != nil {
		return "", err
	}
	ctx = platform.WithCaller(ctx, a.r.Network)
	phone, err := provider.ExchangePhoneCode(ctx, platform.Credentials{AppID: a.app.ID, Secret: auth.Secret(secret)}, openID, a.r.Code.Reveal())
	if err != nil {
		return "", err
	}
	if !auth.ValidPhone(phone) {
		return "", &auth.Error{Code: auth.PlatformUnavailable, Err: errors.New("binding: the platform told a number that is none")}
	}
	return phone, nil
}

func (a *attempt) byTicket(ctx context.Context) (uuid.UUID, error) {
	t, err := a.s.goodTicket(ctx, a.r.Ticket, a.session, a.now)
	return t.Person.ID, err
}
