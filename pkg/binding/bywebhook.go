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
	// Errors: [auth.WebhookRefused], whose UserMessage is the message of the business;
	// [auth.WebhookUnavailable] when there was no answer or an invalid one; the
	// context's error when the caller gave up. No error text holds the secret or a
	// field.
	Ask(ctx context.Context, q Question) (Answer, error)
}

// Question is the request to the business back end.
type Question struct {
	URL    string
	Secret auth.Secret
	// AppID and Identity are those of the user to bind.
	AppID    string
	Identity uuid.UUID
	Fields   map[string]string
}

// Answer is the person that the business names. A nil member leaves the value of an
// existing person unchanged.
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
		// Marks that are often copied with text are allowed; they are removed later.
		if !utf8.ValidString(value) || !auth.CleanText(strings.TrimSpace(auth.StripMarks(value))) {
			return errFieldText
		}
	}
	return nil
}

// fields returns nil: only the business knows which fields it requires.
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
		// The mistake is in the webhook's answer; the user cannot correct it.
		return nil, &auth.Error{Code: auth.WebhookUnavailable, Err: fmt.Errorf("app %s: the person in the webhook's answer: %w", a.app.ID, err)}
	}
	return &d, nil
}
