package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
	"github.com/yufu-auth/yufu/pkg/binding/webhook"
)

// webhooks adapts the webhook client to [binding.Webhook].
type webhooks struct{ client *webhook.Client }

// Ask implements [binding.Webhook].
func (w webhooks) Ask(ctx context.Context, q binding.Question) (binding.Answer, error) {
	keys, err := webhook.ParseKeys(q.Secret)
	if err != nil {
		return binding.Answer{}, &auth.Error{Code: auth.WebhookUnavailable, Err: fmt.Errorf("app %s: %w", q.AppID, err)}
	}
	p, err := w.client.Ask(ctx, webhook.Endpoint{URL: q.URL, Keys: keys}, webhook.Request{AppID: q.AppID, Identity: q.Identity, Fields: q.Fields})
	var refused *webhook.Refused
	switch {
	case errors.As(err, &refused):
		return binding.Answer{}, &auth.Error{Code: auth.WebhookRefused, UserMessage: refused.UserMessage, Err: refused}
	case err != nil:
		return binding.Answer{}, err
	}
	a := binding.Answer{ExternalID: p.ExternalID, Name: &p.Name, Attributes: p.Attributes}
	if p.Phone != "" {
		a.Phone = &p.Phone
	}
	return a, nil
}
