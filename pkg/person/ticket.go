package person

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// Lifetimes of tickets.
const (
	DefaultTicketTTL = 10 * time.Minute
	MinTicketTTL     = time.Minute
	MaxTicketTTL     = 7 * 24 * time.Hour
)

// A ticket is 160 random bits as 27 characters of base64url, which fits the scene
// of a mini-program code (32 characters) with a short name before it.
const (
	ticketSize = 20
	ticketLen  = 27
)

// HashTicket returns the hash under which stores keep a ticket. It returns false if the
// text does not have the form of a ticket.
func HashTicket(ticket auth.Secret) ([32]byte, bool) {
	s := ticket.Reveal()
	if len(s) != ticketLen {
		return [32]byte{}, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return sha256.Sum256(b), err == nil && len(b) == ticketSize
}

// Ticket is a row of bind_tickets.
type Ticket struct {
	// Hash is the SHA-256 of the ticket.
	Hash   [32]byte
	Person auth.Person
	// AppID restricts the ticket to an app; empty means all.
	AppID                string
	CreatedAt, ExpiresAt time.Time
	// UsedBy is the identity that used it, or uuid.Nil.
	UsedBy uuid.UUID
}

// Good reports whether the identity of the app may use the ticket to bind itself, or
// has used it already.
func (t *Ticket) Good(appID string, identity uuid.UUID, now time.Time) bool {
	if t.AppID != "" && t.AppID != appID {
		return false
	}
	if t.UsedBy != uuid.Nil {
		return t.UsedBy == identity
	}
	return now.Before(t.ExpiresAt)
}

// TicketRetention is how long tickets are kept after they have expired, so that a
// client that used one and lost the answer can ask again.
const TicketRetention = 24 * time.Hour

// TicketRequest describes a ticket to mint.
type TicketRequest struct {
	Person uuid.UUID
	// AppID restricts the ticket to an app; empty means all.
	AppID string
	// TTL is the lifetime; zero means [DefaultTicketTTL].
	TTL time.Duration
}

// MintTicket returns a new ticket and when it expires. The store keeps only the hash of
// the ticket.
//
// Errors: [auth.InvalidRequest], also for a TTL out of bounds; [auth.NotFound],
// [auth.PersonDisabled] and [auth.AppUnknown] as [Store.AddTicket] returns them.
func (s *Service) MintTicket(ctx context.Context, r TicketRequest, c auth.Caller) (auth.Secret, time.Time, error) {
	ttl := cmp.Or(r.TTL, DefaultTicketTTL)
	if ttl < MinTicketTTL || ttl > MaxTicketTTL {
		return "", time.Time{}, auth.Invalid("the lifetime of a ticket must be 1 minute to 7 days")
	}
	event, err := s.event(auth.AuditTicketMinted, &c)
	if err != nil {
		return "", time.Time{}, err
	}
	b := make([]byte, ticketSize)
	_, _ = rand.Read(b) // never fails: crypto/rand aborts the program instead
	t := Ticket{
		Hash: sha256.Sum256(b), Person: auth.Person{ID: r.Person}, AppID: r.AppID,
		CreatedAt: event.At, ExpiresAt: auth.StoredTime(event.At.Add(ttl)),
	}
	if err := s.c.Store.AddTicket(ctx, t, event.With(map[string]any{"expires_at": t.ExpiresAt})); err != nil {
		return "", time.Time{}, notFoundAs(err, errNoPerson)
	}
	return auth.Secret(base64.RawURLEncoding.EncodeToString(b)), t.ExpiresAt, nil
}
