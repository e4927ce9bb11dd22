package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// sessionColumns are the columns of sessions s that a [sessionRow] scans, with the fields
// of the bound person that responses show. The person's row is always looked up by the
// session's own person_id, not by the identity's.
const sessionColumns = `
  s.id, s.identity_uuid, s.appid, s.device, s.person_id, s.ver, s.epoch, s.generation,
  s.rotated_at, s.started_at, s.idle_expires_at, s.expires_at, s.ended_at, s.end_reason,
  (select p.external_id from persons p where p.id = s.person_id),
  (select p.name from persons p where p.id = s.person_id)`

type sessionRow struct {
	s                auth.Session
	person           *uuid.UUID
	externalID, name *string
	endedAt          *time.Time
	endReason        *string
}

// targets are the destinations for scanning sessionColumns.
func (r *sessionRow) targets() []any {
	s := &r.s
	return []any{
		&s.ID, &s.Identity, &s.AppID, &s.Device, &r.person, &s.Ver, &s.Epoch, &s.Generation,
		&s.RotatedAt, &s.StartedAt, &s.IdleExpiresAt, &s.ExpiresAt, &r.endedAt, &r.endReason,
		&r.externalID, &r.name,
	}
}

// session returns the scanned session. If the statement could not see the person, it
// reads the person with q.
func (r *sessionRow) session(ctx context.Context, q querier) (auth.Session, error) {
	s := r.s
	for _, t := range []*time.Time{&s.RotatedAt, &s.StartedAt, &s.IdleExpiresAt, &s.ExpiresAt} {
		*t = t.UTC()
	}
	s.EndedAt = timeOf(r.endedAt)
	if r.endReason != nil {
		s.EndReason = auth.EndReason(*r.endReason)
	}
	var err error
	s.Person, err = boundPerson(ctx, q, r.person, r.externalID, r.name)
	return s, err
}

var personSQL = statement(`select external_id, name from persons where id = $1`)

// boundPerson returns the bound person, or nil if id is nil. externalID and name are nil
// if the statement that read id did not see the person's row: it waited for the lock of
// the row that holds id, and the person was created after its snapshot.
func boundPerson(ctx context.Context, q querier, id *uuid.UUID, externalID, name *string) (*auth.Person, error) {
	if id == nil {
		return nil, nil
	}
	p := &auth.Person{ID: *id}
	if externalID != nil && name != nil {
		p.ExternalID, p.Name = *externalID, *name
		return p, nil
	}
	err := q.QueryRow(ctx, personSQL, *id).Scan(&p.ExternalID, &p.Name)
	return p, err
}
