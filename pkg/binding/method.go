package binding

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// method is a binding method. Each method is a file (byfacts.go, byphone.go,
// byticket.go, bywebhook.go) and a row of methods. [Service.Bind] does the common part:
// it counts the attempt, calls the store, and answers.
type method interface {
	// check refuses a request that lacks a member which the method needs, or has
	// one that the method does not take. It does not depend on a policy.
	check(r *Request) error
	// fields returns the fields that the policy requires, in the policy's order.
	fields(p *auth.Policy) []string
	// prepare checks the request against the policy of its app, and returns its
	// proof. It makes no call. A request that it refuses is malformed and not counted
	// as an attempt.
	prepare(a *attempt) (proof, error)
	// excuses reports whether a failure with this code does not count against the
	// client, in addition to the codes that every method excuses.
	excuses(code auth.Code) bool
}

// proof is the evidence in a request for who the user is.
type proof interface {
	// limits returns what the attempt is counted against besides the identity.
	limits() limits
	// find finds the person, and sets the Target and the Ticket of b.
	find(ctx context.Context, b *BindParams) error
}

// limits are the counters of an attempt besides that of its identity.
type limits struct {
	keys []auth.AttemptKey
	// budget says that a failure uses up the failure budget of the app.
	budget bool
}

var methods = map[auth.BindingMethod]method{
	auth.BindFacts:   byFacts{},
	auth.BindPhone:   byPhone{},
	auth.BindTicket:  byTicket{},
	auth.BindWebhook: byWebhook{},
}

// methodOf returns the method of a request, with the error of its check.
func methodOf(r *Request) (method, error) {
	m, ok := methods[r.Method]
	if !ok {
		names := make([]string, 0, len(methods))
		for _, name := range auth.BindingMethods() {
			names = append(names, string(name))
		}
		return nil, auth.Invalid("method must be one of " + strings.Join(names, ", "))
	}
	return m, m.check(r)
}

// members says which members a method takes. Fields are optional; code and ticket are
// required if the method takes them.
type members struct{ fields, code, ticket bool }

// checkMembers refuses a request that lacks a member which its method needs, or has one
// that the method does not take.
func (r *Request) checkMembers(takes members) error {
	for _, m := range []struct {
		name                     string
		present, allowed, needed bool
	}{
		{"fields", len(r.Fields) > 0, takes.fields, false},
		{"code", r.Code != "", takes.code, takes.code},
		{"ticket", r.Ticket != "", takes.ticket, takes.ticket},
	} {
		switch {
		case m.present && !m.allowed:
			return auth.Invalid("the method " + string(r.Method) + " does not take the member " + m.name)
		case m.needed && !m.present:
			return auth.Invalid("the method " + string(r.Method) + " needs the member " + m.name)
		}
	}
	return nil
}

// Limits of the fields of a request.
const (
	maxFields   = 32
	maxFieldLen = 1024 // characters of a value; a name has at most auth.MaxAttributeNameLen bytes
)

// checkFields refuses fields that no method takes.
func (r *Request) checkFields() error {
	if len(r.Fields) > maxFields {
		return auth.Invalid("fields must have at most 32 members")
	}
	for name, value := range r.Fields {
		switch {
		case name == "" || len(name) > auth.MaxAttributeNameLen || !auth.CleanText(name):
			return auth.Invalid("the name of a field must be text of 1 to 64 bytes without control characters")
		case utf8.RuneCountInString(value) > maxFieldLen:
			return errFieldText
		}
	}
	return nil
}

var errFieldText = auth.Invalid("a field must be text of at most 1024 characters without control characters")
