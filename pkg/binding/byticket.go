package binding

import (
	"context"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/person"
)

// goodTicket returns the ticket if the session's identity may bind itself by it or has
// done so. Otherwise it returns [auth.TicketInvalid].
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
