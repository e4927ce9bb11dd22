package binding

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/seal"
)

// AdminConfig is what an [Admin] is made of. All fields but Applied are required.
type AdminConfig struct {
	Store PersonStore
	Apps  auth.AppStore
	Facts *FactKey
	// Sealer seals the secrets of webhooks.
	Sealer *seal.Ring
	// Clock returns the current time.
	Clock func() time.Time
	// Applied is called after a commit that cut tokens off, before the caller
	// gets its answer, so that this replica knows its own cutoffs by then.
	Applied func(ctx context.Context)
}

// Admin is the use cases of admins: persons, whom identities are bound to, and
// the policies of apps. It is safe for concurrent use and keeps no state.
type Admin struct {
	c AdminConfig
}

// NewAdmin returns an admin's use cases.
func NewAdmin(c AdminConfig) *Admin {
	if c.Applied == nil {
		c.Applied = func(context.Context) {}
	}
	return &Admin{c}
}

// Caller is who asks, and why.
type Caller struct {
	// Apps restricts him to these apps; empty means all.
	Apps []string
	// Actor, Reason and RequestID go into the audit trail; the reason may be
	// empty.
	Actor, Reason, RequestID string
}

// event returns the audit event of what a caller does, or [auth.InvalidRequest]
// when his reason is none.
func (a *Admin) event(action auth.AuditAction, c Caller) (auth.AuditEvent, error) {
	if err := auth.CheckReason(c.Reason); err != nil {
		return auth.AuditEvent{}, err
	}
	return auth.AuditEvent{At: a.now(), Action: action, Actor: c.Actor, Reason: c.Reason, RequestID: c.RequestID}, nil
}

func (a *Admin) now() time.Time { return auth.StoredTime(a.c.Clock()) }

// scope returns the apps as stores take them: nil for all.
func (c *Caller) scope() []string {
	if len(c.Apps) == 0 {
		return nil
	}
	return c.Apps
}

// PersonForm is a person as an admin writes him. Members that are nil are not
// named.
type PersonForm struct {
	ExternalID, Name, Phone *string
	// Facts are those to set; a value of nil removes one.
	Facts map[string]*string
	// Attributes is a JSON object.
	Attributes json.RawMessage
}

// draft checks a form.
func (a *Admin) draft(f *PersonForm) (Draft, error) {
	d := Draft{Source: auth.PersonByAdmin}
	var err error
	if d.ID, err = uuid.NewV7(); err != nil {
		return d, err
	}
	if f.ExternalID != nil {
		if d.ExternalID, err = auth.CleanExternalID(*f.ExternalID); err != nil {
			return d, err
		}
	}
	if f.Name != nil {
		name, err := auth.CleanPersonName(*f.Name)
		if err != nil {
			return d, err
		}
		d.Name = &name
	}
	if f.Phone != nil {
		phone := *f.Phone
		if phone != "" {
			if phone, err = auth.CleanPhone(phone); err != nil {
				return d, err
			}
		}
		d.Phone = &phone
	}
	if f.Attributes != nil {
		if d.Attributes, err = auth.CleanAttributes(f.Attributes); err != nil {
			return d, err
		}
	}
	d.Facts, err = a.c.Facts.MACs(f.Facts)
	return d, err
}

// CreatePerson adds a person.
//
// Errors: [auth.InvalidRequest], [auth.PersonConflict].
func (a *Admin) CreatePerson(ctx context.Context, f PersonForm, c Caller) (auth.PersonRecord, error) {
	event, err := a.event(auth.AuditPersonCreated, c)
	if err != nil {
		return auth.PersonRecord{}, err
	}
	d, err := a.draft(&f)
	if err != nil {
		return auth.PersonRecord{}, err
	}
	return a.c.Store.CreatePerson(ctx, d, event)
}

// UpdatePerson changes what the form names.
//
// Errors: [auth.InvalidRequest], [auth.NotFound], [auth.PersonConflict].
func (a *Admin) UpdatePerson(ctx context.Context, id uuid.UUID, f PersonForm, c Caller) (auth.PersonRecord, error) {
	event, err := a.event(auth.AuditPersonUpdated, c)
	if err != nil {
		return auth.PersonRecord{}, err
	}
	d, err := a.draft(&f)
	if err != nil {
		return auth.PersonRecord{}, err
	}
	p, err := a.c.Store.UpdatePerson(ctx, id, d, event)
	return p, said(err, errNoPerson)
}

// Person returns a person, or [auth.NotFound].
func (a *Admin) Person(ctx context.Context, id uuid.UUID) (auth.PersonRecord, error) {
	p, err := a.c.Store.Person(ctx, id)
	return p, said(err, errNoPerson)
}

// Persons finds persons. The phone may be written as people do.
//
// Errors: [auth.InvalidRequest] for a phone that is none.
func (a *Admin) Persons(ctx context.Context, q PersonQuery) ([]auth.PersonRecord, error) {
	if q.Phone != "" {
		phone, err := auth.CleanPhone(q.Phone)
		if err != nil {
			return nil, err
		}
		q.Phone = phone
	}
	var err error
	if q.ExternalID != "" {
		if q.ExternalID, err = auth.CleanExternalID(q.ExternalID); err != nil {
			return nil, err
		}
	}
	if !utf8.ValidString(q.Name) || !auth.CleanText(auth.StripMarks(q.Name)) {
		return nil, auth.Invalid("what to search for is UTF-8 text without control characters")
	}
	q.Name = auth.StripMarks(q.Name)
	return a.c.Store.Persons(ctx, q)
}

// DisablePerson keeps the person out and ends his sessions; EnablePerson lets him
// in again.
//
// Errors: [auth.InvalidRequest], [auth.NotFound].
func (a *Admin) DisablePerson(ctx context.Context, id uuid.UUID, c Caller) (auth.PersonRecord, error) {
	event, err := a.event(auth.AuditPersonDisabled, c)
	if err != nil {
		return auth.PersonRecord{}, err
	}
	p, err := a.c.Store.DisablePerson(ctx, id, event)
	if err != nil {
		return auth.PersonRecord{}, said(err, errNoPerson)
	}
	a.c.Applied(ctx)
	return p, nil
}

// EnablePerson is described at [Admin.DisablePerson].
func (a *Admin) EnablePerson(ctx context.Context, id uuid.UUID, c Caller) (auth.PersonRecord, error) {
	event, err := a.event(auth.AuditPersonEnabled, c)
	if err != nil {
		return auth.PersonRecord{}, err
	}
	p, err := a.c.Store.EnablePerson(ctx, id, event)
	return p, said(err, errNoPerson)
}

// Row is a row of an import.
type Row struct {
	Form PersonForm
	// Err says that it is none; it is handed on.
	Err error
}

// Import creates and updates persons by their external_id, and says of each row
// what became of it. A row that is refused does not keep the others out.
//
// Errors: [auth.InvalidRequest] for the reason alone; those of rows are in what it
// returns.
func (a *Admin) Import(ctx context.Context, rows []Row, dryRun bool, c Caller) ([]Upserted, error) {
	event, err := a.event(auth.AuditPersonsImported, c)
	if err != nil {
		return nil, err
	}
	all := make([]Upserted, len(rows))
	u := Upsert{DryRun: dryRun, Event: event}
	var at []int
	for i := range rows {
		d, err := a.importDraft(&rows[i])
		if err != nil {
			all[i].Err = err
			continue
		}
		u.Drafts, at = append(u.Drafts, d), append(at, i)
	}
	if len(u.Drafts) == 0 {
		return all, nil
	}
	done, err := a.c.Store.UpsertPersons(ctx, u)
	if err != nil {
		return nil, err
	}
	for i, d := range done {
		all[at[i]] = d
	}
	return all, nil
}

func (a *Admin) importDraft(r *Row) (Draft, error) {
	switch {
	case r.Err != nil:
		return Draft{}, r.Err
	case r.Form.ExternalID == nil:
		return Draft{}, auth.Invalid("external_id is missing; rows are told apart by it")
	}
	return a.draft(&r.Form)
}

// AppForm is what an admin changes of an app; nil fields stay as they are.
type AppForm struct {
	Policy        *auth.Policy
	WebhookSecret *auth.Secret
}

// UpdateApp changes an app's policy and the secret of its webhook, whose form the
// caller has checked.
//
// Errors: [auth.InvalidRequest], also for a webhook without a secret;
// [auth.NotFound]; [auth.InsufficientScope] when a caller who is restricted to apps
// would get at persons by it.
func (a *Admin) UpdateApp(ctx context.Context, appID string, f AppForm, c Caller) (auth.App, error) {
	event, err := a.event(auth.AuditAppUpdated, c)
	if err != nil {
		return auth.App{}, err
	}
	before, err := a.App(ctx, appID, c)
	if err != nil {
		return auth.App{}, err
	}
	if f.Policy == nil && f.WebhookSecret == nil {
		return before, nil
	}
	change := auth.AppChange{Policy: f.Policy}
	if f.Policy != nil {
		if err := f.Policy.Check(); err != nil {
			return auth.App{}, err
		}
		// Asked by the store about the app as it is then: what another admin has
		// taken from it since it was read above must not come back.
		change.Check = func(before auth.App) error {
			if len(c.Apps) > 0 && reachesFurther(&before.Policy, f.Policy) {
				return errReach
			}
			if f.Policy.Allows(auth.BindWebhook) && f.WebhookSecret == nil && len(before.SealedWebhookSecret) == 0 {
				return auth.Invalid("the method webhook needs a webhook_secret")
			}
			return nil
		}
	}
	if f.WebhookSecret != nil {
		change.SealedWebhookSecret, err = a.c.Sealer.Seal([]byte(f.WebhookSecret.Reveal()), WebhookSecretAAD(appID))
		if err != nil {
			return auth.App{}, err
		}
	}
	app, err := a.c.Apps.UpdateApp(ctx, appID, change, event)
	return app, said(err, errNoApp)
}

var errReach = &auth.Error{Code: auth.InsufficientScope, Description: "The methods facts, phone and webhook, their members, and attributes reach persons, who belong to no app: to extend them it needs a service key that is not restricted to apps."}

// reachesFurther reports whether a policy gives an app more of the persons than
// the one before: facts and phones bind its users to any person there is, a
// webhook's answer writes persons, and attributes are read of them. A member that is
// not looked at here reaches further when it differs.
func reachesFurther(before, after *auth.Policy) bool {
	within := func(all, some []string) bool {
		return !slices.ContainsFunc(some, func(name string) bool { return !slices.Contains(all, name) })
	}
	for _, m := range []auth.BindingMethod{auth.BindFacts, auth.BindPhone, auth.BindWebhook} {
		if after.Allows(m) && !before.Allows(m) {
			return true
		}
	}
	facts := after.Facts.Lookup == "" ||
		after.Facts.Lookup == before.Facts.Lookup && within(after.Facts.Check, before.Facts.Check)
	phone := (!after.Allows(auth.BindPhone) || within(after.Phone.Check, before.Phone.Check)) && (before.Phone.Create || !after.Phone.Create)
	hook := after.Webhook.URL == "" || after.Webhook.URL == before.Webhook.URL
	if !facts || !phone || !hook || !within(before.Attributes, after.Attributes) {
		return true
	}
	rest := *after
	rest.Methods, rest.Facts, rest.Phone, rest.Webhook, rest.Attributes = before.Methods, before.Facts, before.Phone, before.Webhook, before.Attributes
	// These two concern the app's own users only.
	rest.SecondIdentity, rest.SelfUnbind = before.SecondIdentity, before.SelfUnbind
	return !reflect.DeepEqual(&rest, before)
}

// App returns an app, or [auth.NotFound].
func (a *Admin) App(ctx context.Context, appID string, c Caller) (auth.App, error) {
	if !auth.ValidAppID(appID) || len(c.Apps) > 0 && !slices.Contains(c.Apps, appID) {
		return auth.App{}, errNoApp
	}
	app, err := a.c.Apps.App(ctx, appID)
	return app, said(err, errNoApp)
}

// Apps returns the apps that the caller may see, by their ids.
func (a *Admin) Apps(ctx context.Context, c Caller) ([]auth.App, error) {
	all, err := a.c.Apps.Apps(ctx)
	if len(c.Apps) > 0 {
		all = slices.DeleteFunc(all, func(app auth.App) bool { return !slices.Contains(c.Apps, app.ID) })
	}
	return all, err
}

// What admins are told of what is not there.
var (
	errNoPerson   = &auth.Error{Code: auth.NotFound, Description: "There is no person with this id."}
	errNoIdentity = &auth.Error{Code: auth.NotFound, Description: "There is no user with this uuid, or the user is erased."}
	errNoApp      = &auth.Error{Code: auth.NotFound, Description: "There is no app with this appid."}
	errNoDelay    = &auth.Error{Code: auth.NotFound, Description: "There are no failed attempts that count."}
)

// said returns the sentence for an error that says that something is not there,
// and other errors as they are.
func said(err, sentence error) error {
	switch auth.CodeOf(err) {
	case auth.NotFound, auth.AppUnknown:
		return sentence
	}
	return err
}
