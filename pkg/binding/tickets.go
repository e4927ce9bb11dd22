package binding

import (
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

// hashTicket returns what is kept of a ticket, or false for what cannot be one.
func hashTicket(ticket auth.Secret) ([32]byte, bool) {
	s := ticket.Reveal()
	if len(s) != ticketLen {
		return [32]byte{}, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return sha256.Sum256(b), err == nil && len(b) == ticketSize
}

// goodTicket returns the ticket if the session's identity may bind itself by it,
// or has done so, or [auth.TicketInvalid].
func (s *Service) goodTicket(ctx context.Context, ticket auth.Secret, current *auth.Session, now time.Time) (Ticket, error) {
	hash, ok := hashTicket(ticket)
	if !ok {
		return Ticket{}, auth.TicketInvalid
	}
	t, err := s.c.Store.Ticket(ctx, hash)
	if err != nil {
		return Ticket{}, err
	}
	if !t.Good(current.AppID, current.Identity, now) {
		return Ticket{}, auth.TicketInvalid
	}
	return t, nil
}

// TicketRequest is a ticket to mint.
type TicketRequest struct {
	Person uuid.UUID
	// AppID restricts it to an app; empty means all.
	AppID string
	// TTL is how long it is good, [DefaultTicketTTL] if it is zero.
	TTL time.Duration
	// Actor, Reason and RequestID go into the audit trail.
	Actor, Reason, RequestID string
}

// MintTicket returns a new ticket, which is kept as its hash alone, and when it
// expires.
//
// Errors: those of [Store.AddTicket], and [auth.InvalidRequest] for a TTL out of
// bounds.
func MintTicket(ctx context.Context, store Store, r TicketRequest, now time.Time) (auth.Secret, time.Time, error) {
	ttl := r.TTL
	if ttl == 0 {
		ttl = DefaultTicketTTL
	}
	if ttl < MinTicketTTL || ttl > MaxTicketTTL {
		return "", time.Time{}, auth.Invalid("a ticket is good for 1 minute to 7 days")
	}
	now = auth.StoredTime(now)
	b := make([]byte, ticketSize)
	_, _ = rand.Read(b) // never fails: crypto/rand aborts the program instead
	t := Ticket{
		Hash: sha256.Sum256(b), Person: auth.Person{ID: r.Person}, AppID: r.AppID,
		CreatedAt: now, ExpiresAt: auth.StoredTime(now.Add(ttl)),
	}
	err := store.AddTicket(ctx, t, auth.AuditEvent{
		At: now, Action: auth.AuditTicketMinted, Actor: r.Actor, Reason: r.Reason, RequestID: r.RequestID,
		Detail: map[string]any{"expires_at": t.ExpiresAt},
	})
	if err != nil {
		return "", time.Time{}, err
	}
	return auth.Secret(base64.RawURLEncoding.EncodeToString(b)), t.ExpiresAt, nil
}
