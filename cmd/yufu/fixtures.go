package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/app"
	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
)

// devCaller is the caller with which yufu dev sets up its data.
var devCaller = auth.Caller{Actor: auth.ActorService, Reason: "yufu dev"}

// devPersons are in every database of yufu dev. The number is the external_id and the fact
// employee_no. The name is also a fact.
var devPersons = []struct{ number, name, phone string }{
	{"1001", "李雷", "+8613800001001"},
	{"1002", "韩梅梅", "+8613800001002"},
}

// devWebhookPath is the path of the simulated business back end of yufu dev, which shares the
// address of the simulator. devWebhookSecret signs the requests to it, and protects nothing.
const (
	devWebhookPath   = "/business/bind"
	devWebhookSecret = "whsec_c2ltdWxhdGVkLXdlYmhvb2stc2VjcmV0IQ==" //nolint:gosec // it protects nothing, see above
)

// devPolicy allows every binding method, the webhook only if there is a webhook URL.
func devPolicy(webhookURL string) auth.Policy {
	p := auth.Policy{
		Methods:        auth.BindingMethods(),
		Facts:          auth.FactsPolicy{Lookup: "employee_no", Check: []string{"name"}},
		Webhook:        auth.WebhookPolicy{URL: webhookURL},
		SecondIdentity: auth.SecondReplaces,
		SelfUnbind:     true,
	}
	if webhookURL == "" {
		p.Methods = slices.DeleteFunc(p.Methods, func(m auth.BindingMethod) bool { return m == auth.BindWebhook })
	}
	return p
}

// ensureFixtures creates the persons of yufu dev, and gives the app a policy if it has none.
// It updates the address of the simulated back end.
func ensureFixtures(ctx context.Context, s store, apps *app.Service, facts *person.FactKey, appID, webhookURL string, at time.Time) error {
	for _, p := range devPersons {
		macs, err := facts.MACs(map[string]*string{"employee_no": &p.number, "name": &p.name})
		if err != nil {
			return err
		}
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		_, err = s.CreatePerson(ctx, person.Draft{ID: id, ExternalID: p.number, Name: &p.name, Phone: &p.phone, Facts: macs},
			auth.AuditEvent{At: at, Action: auth.AuditPersonCreated, Actor: auth.ActorService, Reason: "yufu dev"})
		if err != nil && !errors.Is(err, auth.PersonConflict) {
			return err
		}
	}
	a, err := s.App(ctx, appID)
	if err != nil {
		return err
	}
	policy := a.Policy
	switch stale := strings.HasSuffix(policy.Webhook.URL, devWebhookPath) && policy.Webhook.URL != webhookURL; {
	case len(policy.Methods) == 0:
		policy = devPolicy(webhookURL)
	case stale && webhookURL != "":
		policy.Webhook.URL = webhookURL
	default:
		return nil
	}
	secret := auth.Secret(devWebhookSecret)
	_, err = apps.Update(ctx, appID, app.Form{Policy: &policy, WebhookSecret: &secret}, devCaller)
	return err
}

// devBusiness is a business back end that answers a webhook. It finds the persons of yufu dev
// by their employee_no. It accepts every request, which is only for development: a real back
// end verifies the signature first.
func devBusiness(w http.ResponseWriter, r *http.Request) {
	var question struct {
		Data struct {
			Fields map[string]string `json:"fields"`
		} `json:"data"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&question); err != nil {
		http.Error(w, "the body must be a JSON object with a member data", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	number := question.Data.Fields["employee_no"]
	for _, p := range devPersons {
		if p.number == number {
			_, _ = fmt.Fprintf(w, `{"person":{"external_id":%q,"name":%q}}`, p.number, p.name)
			return
		}
	}
	_, _ = io.WriteString(w, `{"refused":{"user_message":"工号不存在，请联系人事"}}`)
}

// withBusiness adds the simulated business back end to the simulator.
func withBusiness(simulator http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == devWebhookPath && r.Method == http.MethodPost {
			devBusiness(w, r)
			return
		}
		simulator.ServeHTTP(w, r)
	})
}
