package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// BindingMethod names a way to prove that an identity is a person.
type BindingMethod string

// The methods.
const (
	// BindFacts: the user knows facts about the person that the business
	// imported.
	BindFacts BindingMethod = "facts"
	// BindPhone: the platform confirms the user's phone number.
	BindPhone BindingMethod = "phone"
	// BindTicket: the business back end knows the user already, and gave them a
	// one-time ticket.
	BindTicket BindingMethod = "ticket"
	// BindWebhook: Yufu asks the webhook of the business back end, which decides.
	BindWebhook BindingMethod = "webhook"
)

// BindingMethods lists every method.
func BindingMethods() []BindingMethod {
	return []BindingMethod{BindFacts, BindPhone, BindTicket, BindWebhook}
}

// SecondIdentity is the rule for a person who has an identity in an app and binds another
// one there. The cause may be a new phone, a second account, or somebody else.
type SecondIdentity string

// The rules.
const (
	// SecondRefused keeps the first and refuses the second.
	SecondRefused SecondIdentity = "refuse"
	// SecondReplaces unbinds the first, whose sessions end.
	SecondReplaces SecondIdentity = "replace"
	// SecondJoins keeps both.
	SecondJoins SecondIdentity = "join"
)

// Displaced returns those of a person's other identities in an app that must be unbound
// before the person binds one more, or [PersonTaken].
func (s SecondIdentity) Displaced(others []uuid.UUID) ([]uuid.UUID, error) {
	switch {
	case len(others) == 0, s == SecondJoins:
		return nil, nil
	case s == SecondReplaces:
		return others, nil
	default:
		return nil, PersonTaken
	}
}

// Policy says how identities of an app are bound to persons. With the zero value users
// cannot bind themselves. Its JSON form is that of the admin API and of the policy
// file.
type Policy struct {
	// Methods are those that users may bind themselves by.
	Methods []BindingMethod `json:"methods,omitempty"`
	Facts   FactsPolicy     `json:"facts,omitzero"`
	Phone   PhonePolicy     `json:"phone,omitzero"`
	Webhook WebhookPolicy   `json:"webhook,omitzero"`
	// SecondIdentity is [SecondRefused] when it is empty.
	SecondIdentity SecondIdentity `json:"second_identity,omitempty"`
	// SelfUnbind lets bound users unbind themselves, and so also bind to another
	// person.
	SelfUnbind bool `json:"self_unbind,omitempty"`
	// Attributes are the attributes of the person that introspection shows.
	Attributes []string `json:"attributes,omitempty"`
	// OmitExternalID keeps the business's own id of the person out of tokens.
	OmitExternalID bool `json:"omit_external_id,omitempty"`
}

// FactsPolicy configures [BindFacts].
type FactsPolicy struct {
	// Lookup is the fact that finds the person. Its values should be unique: a value
	// that two persons have binds neither.
	Lookup string `json:"lookup,omitempty"`
	// Check are the other facts, which must all match.
	Check []string `json:"check,omitempty"`
}

// PhonePolicy configures [BindPhone].
type PhonePolicy struct {
	// Check are facts that must match in addition to the number. Numbers are reassigned
	// to new owners, while the person may still have the old number in the database.
	Check []string `json:"check,omitempty"`
	// Create makes a new person for a number that no person has.
	Create bool `json:"create,omitempty"`
}

// WebhookPolicy configures [BindWebhook].
type WebhookPolicy struct {
	// URL is where the business back end decides: https; http on loopback for development.
	URL string `json:"url,omitempty"`
}

// Limits of a policy.
const (
	// MaxFacts is the maximum number of facts of a policy, and of a person.
	MaxFacts = 16
	// MaxPolicyAttributes is the maximum number of attributes of a policy, and
	// MaxAttributeNameLen the maximum length of each name, in bytes.
	MaxPolicyAttributes = 32
	MaxAttributeNameLen = 64
	maxPolicyLen        = 16 << 10
	maxWebhookURLLen    = 2048
)

// Allows reports whether users may bind themselves by the method.
func (p *Policy) Allows(m BindingMethod) bool { return slices.Contains(p.Methods, m) }

// Second returns the rule for a second identity.
func (p *Policy) Second() SecondIdentity {
	if p.SecondIdentity == "" {
		return SecondRefused
	}
	return p.SecondIdentity
}

// IsZero reports whether nothing is set.
func (f FactsPolicy) IsZero() bool { return f.Lookup == "" && len(f.Check) == 0 }

// IsZero reports whether nothing is set.
func (f PhonePolicy) IsZero() bool { return !f.Create && len(f.Check) == 0 }

// ParsePolicy reads the JSON form of a policy strictly: a misspelt member that is
// ignored would make the policy too open or too strict. The errors are those of
// [Policy.Check], and [InvalidRequest] for malformed JSON.
func ParsePolicy(b []byte) (Policy, error) {
	if len(b) > maxPolicyLen {
		return Policy{}, Invalid("the policy must have at most 16 KiB")
	}
	if string(bytes.TrimSpace(b)) == "null" {
		return Policy{}, Invalid("the policy must be a JSON object, not null")
	}
	var p Policy
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return Policy{}, policyError(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Policy{}, Invalid("the policy must be one JSON object without data after it")
	}
	// Equal policies have one form.
	for _, list := range []*[]string{&p.Facts.Check, &p.Phone.Check, &p.Attributes} {
		if len(*list) == 0 {
			*list = nil
		}
	}
	if len(p.Methods) == 0 {
		p.Methods = nil
	}
	return p, p.Check()
}

// unknownField is the prefix of the error of encoding/json for a member that the type
// does not have.
const unknownField = "json: unknown field "

// policyError returns the error for the client, which does not quote the input.
func policyError(err error) error {
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong) && wrong.Field != "":
		return Invalid("the policy's member " + wrong.Field + " has the wrong type")
	case strings.HasPrefix(err.Error(), unknownField):
		name := strings.Trim(strings.TrimPrefix(err.Error(), unknownField), `"`)
		text := "the policy has an unknown member"
		if isName(name) {
			text += " " + name
		}
		return Invalid(text + "; allowed members: methods, facts, phone, webhook, second_identity, self_unbind, attributes, omit_external_id")
	default:
		return Invalid("the policy must be a JSON object")
	}
}

// Check refuses policies that contradict themselves, with [InvalidRequest].
func (p *Policy) Check() error {
	for i, m := range p.Methods {
		switch {
		case !slices.Contains(BindingMethods(), m):
			return Invalid("each of methods must be facts, phone, ticket or webhook")
		case slices.Contains(p.Methods[:i], m):
			return Invalid("a method is repeated in methods")
		}
	}
	if p.Allows(BindFacts) && (p.Facts.Lookup == "" || len(p.Facts.Check) == 0) {
		return Invalid("the method facts requires facts.lookup and at least one fact in facts.check")
	}
	if err := checkFacts(p.Facts.Lookup, p.Facts.Check); err != nil {
		return err
	}
	if err := checkFacts("", p.Phone.Check); err != nil {
		return err
	}
	if p.Phone.Create && len(p.Phone.Check) > 0 {
		return Invalid("phone.check must be empty with phone.create: a new person has no facts")
	}
	if p.Allows(BindWebhook) && p.Webhook.URL == "" {
		return Invalid("the method webhook requires webhook.url")
	}
	if p.Webhook.URL != "" && !validWebhookURL(p.Webhook.URL) {
		return Invalid("webhook.url must be an https URL without user and fragment (http on loopback only)")
	}
	switch p.Second() {
	case SecondRefused, SecondReplaces, SecondJoins:
	default:
		return Invalid("second_identity must be refuse, replace or join")
	}
	return checkAttributeNames(p.Attributes)
}

func checkFacts(lookup string, check []string) error {
	if len(check) > MaxFacts {
		return Invalid("a policy must check at most 16 facts")
	}
	if lookup != "" && !ValidFactName(lookup) {
		return errFactName
	}
	for i, name := range check {
		switch {
		case !ValidFactName(name):
			return errFactName
		case name == lookup, slices.Contains(check[:i], name):
			return Invalid("a fact is repeated in facts or phone")
		}
	}
	return nil
}

var errFactName = Invalid("the name of a fact must be 1 to 32 lower-case letters, digits and underscores, and begin with a letter")

// ValidFactName reports whether s may name a fact: [a-z][a-z0-9_]{0,31}.
func ValidFactName(s string) bool {
	if s == "" || len(s) > 32 || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '_')
	})
}

func validWebhookURL(s string) bool {
	u, err := url.Parse(s)
	if err != nil || len(s) > maxWebhookURLLen || u.Host == "" || u.User != nil || u.Fragment != "" || !CleanText(s) {
		return false
	}
	if u.Scheme == "https" {
		return true
	}
	host := u.Hostname()
	addr, err := netip.ParseAddr(host)
	return u.Scheme == "http" && (host == "localhost" || err == nil && addr.IsLoopback())
}

func checkAttributeNames(names []string) error {
	if len(names) > MaxPolicyAttributes {
		return Invalid("a policy must have at most 32 attributes")
	}
	for i, name := range names {
		switch {
		case name == "" || len(name) > MaxAttributeNameLen || !CleanText(name):
			return Invalid("the name of an attribute must be text of 1 to 64 bytes without control characters")
		case slices.Contains(names[:i], name):
			return Invalid("a name is repeated in attributes")
		}
	}
	return nil
}
