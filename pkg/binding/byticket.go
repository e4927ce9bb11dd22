package binding

import (
	"context"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
)

// byTicket binds a user to the person of a one-time ticket.
type byTicket struct{}

func (byTicket) check(r *Request) error { return r.checkMembers(members{ticket: true}) }

func (byTicket) fields(*auth.Policy) []string { return nil }

func (byTicket) prepare(a *attempt) (proof, error) {
	hash, ok := person.HashTicket(a.r.Ticket)
	if !ok {
		return nil, auth.TicketInvalid
	}
	return &ticketProof{a, hash}, nil
}

func (byTicket) excuses(auth.Code) bool { return false }

type ticketProof struct {
	a    *attempt
	hash [32]byte
}

func (*ticketProof) limits() limits { return limits{} }

func (p *ticketProof) find(ctx context.Context, b *BindParams) error {
	t, err := p.a.s.goodTicket(ctx, p.a.r.Ticket, p.a.session, p.a.now)
	b.Target.Person, b.Ticket = t.Person.ID, &p.hash
	return err
}

// Preview shows the effect of a ticket for the user to confirm: a stranger may have
// covered the code to scan with another one.
type Preview struct {
	// Session is that of the access token.
	Session auth.Session
	// Name is the person's, masked.
	Name      string
	ExpiresAt time.Time
}

// Preview returns the person to which a ticket would bind. It changes nothing. Errors
// after the token was checked come with the session.
//
// Errors: those of [session.Service.Authenticate]; [auth.BindingMethodDisabled];
// [auth.TicketInvalid].
func (s *Service) Preview(ctx context.Context, accessToken, ticket auth.Secret) (Preview, error) {
	bearer, err := s.c.Sessions.Authenticate(ctx, accessToken)
	if err != nil {
		return Preview{}, err
	}
	p := Preview{Session: bearer.Session}
	app, err := s.c.Store.App(ctx, p.Session.AppID)
	if err != nil {
		return Preview{}, err
	}
	if !app.Policy.Allows(auth.BindTicket) {
		return p, auth.BindingMethodDisabled
	}
	t, err := s.goodTicket(ctx, ticket, &p.Session, s.now())
	if err != nil {
		return p, err
	}
	p.Name, p.ExpiresAt = auth.MaskName(t.Person.Name), t.ExpiresAt
	return p, nil
}

// goodTicket returns the ticket if the session's identity may use it or has used it, and
// [auth.TicketInvalid] otherwise.
func (s *Service) goodTicket(ctx context.Context, ticket auth.Secret, current *auth.Session, now time.Time) (person.Ticket, error) {
	hash, ok := person.HashTicket(ticket)
	if !ok {
		return person.Ticket{}, auth.TicketInvalid
	}
	t, err := s.c.Store.Ticket(ctx, hash)
	if err != nil {
		return person.Ticket{}, err
	}
	if !t.Good(current.AppID, current.Identity, now) {
		return person.Ticket{}, auth.TicketInvalid
	}
	return t, nil
}
