package binding

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
)

// Webhook asks the business back end who a user is.
type Webhook interface {
	// Ask sends the fields and returns the person that the business names.
	//
	// Errors: [auth.WebhookRefused], whose UserMessage is what the business has to
	// say; [auth.WebhookUnavailable] when it did not answer, or not as it should;
	// the context's error when the caller gave up. No error text holds the
	// secret or a field.
	Ask(ctx context.Context, q Question) (Answer, error)
}

// Question is what the business back end is asked.
type Question struct {
	URL    string
	Secret auth.Secret
	// AppID and Identity say who asks to be bound.
	AppID    string
	Identity uuid.UUID
	Fields   map[string]string
}

// Answer is the person that the business names. What is nil is not known, or
// stays as it is.
type Answer struct {
	ExternalID  string
	Name, Phone *string
	// Attributes is a JSON object.
	Attributes json.RawMessage
}

// byWebhook binds a user to the person that the business back end names. The person is
// created or updated in the same transaction.
type byWebhook struct{}

func (byWebhook) check(r *Request) error {
	if err := r.checkMembers(members{fields: true}); err != nil {
		return err
	}
	if err := r.checkFields(); err != nil {
		return err
	}
	for _, value := range r.Fields {
		// What is left without the marks that come along when text is copied.
		if !utf8.ValidString(value) || !auth.CleanText(strings.TrimSpace(auth.StripMarks(value))) {
			return errFieldText
		}
	}
	return nil
}

// fields returns none: the business knows which fields it wants.
func (byWebhook) fields(*auth.Policy) []string { return nil }

func (byWebhook) prepare(a *attempt) (proof, error) {
	if a.s.c.Webhook == nil {
		return nil, auth.BindingMethodDisabled
	}
	return &webhookProof{a}, nil
}

func (byWebhook) excuses(code auth.Code) bool {
	// The phone of the person that the business names may be another person's.
	return code == auth.WebhookUnavailable || code == auth.PersonConflict
}

type webhookProof struct {
	a *attempt
}

func (p *webhookProof) limits() limits {
	return limits{keys: []auth.AttemptKey{auth.AddressAttempts(p.a.r.Network, p.a.app.ID)}}
}

func (p *webhookProof) find(ctx context.Context, b *BindParams) (err error) {
	b.Target.Save, err = p.a.askWebhook(ctx)
	return err
}

// askWebhook asks the business back end who the user is, and returns the person to save.
func (a *attempt) askWebhook(ctx context.Context) (*person.Draft, error) {
	secret, err := a.s.c.Sealer.Open(a.app.SealedWebhookSecret, app.WebhookSecretAAD(a.app.ID))
	if err != nil {
		return nil, &auth.Error{Code: auth.WebhookUnavailable, Err: fmt.Errorf("app %s: open the webhook's secret: %w", a.app.ID, err)}
	}
	fields := make(map[string]string, len(a.r.Fields))
	for name, value := range a.r.Fields {
		fields[name] = auth.StripMarks(value)
	}
	answer, err := a.s.c.Webhook.Ask(ctx, Question{
		URL: a.app.Policy.Webhook.URL, Secret: auth.Secret(secret),
		AppID: a.session.AppID, Identity: a.session.Identity, Fields: fields,
	})
	if err != nil {
		return nil, err
	}
	form := person.Form{ExternalID: &answer.ExternalID, Name: answer.Name, Phone: answer.Phone, Attributes: answer.Attributes}
	d, err := form.Draft(a.s.c.Facts, auth.PersonByWebhook)
	if err != nil {
		// It is the business's mistake: the user can do nothing about it.
		return nil, &auth.Error{Code: auth.WebhookUnavailable, Err: fmt.Errorf("app %s: the person in the webhook's answer: %w", a.app.ID, err)}
	}
	return &d, nil
}
