package sqlite

import (
	"database/sql"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// sessionColumns are the columns of sessions that a [sessionRow] scans, with the fields of
// the bound person that responses show. The table has no alias, because SQLite's
// RETURNING does not support one.
const sessionColumns = `
  sessions.id, sessions.identity_uuid, sessions.appid, sessions.device, sessions.person_id,
  sessions.ver, sessions.epoch, sessions.generation, sessions.rotated_at, sessions.started_at,
  sessions.idle_expires_at, sessions.expires_at, sessions.ended_at, sessions.end_reason,
  (select p.external_id from persons p where p.id = sessions.person_id),
  (select p.name from persons p where p.id = sessions.person_id)`

type sessionRow struct {
	s                           auth.Session
	person                      uuid.NullUUID
	externalID, name, endReason sql.NullString
}

// targets are the destinations for scanning sessionColumns.
func (r *sessionRow) targets() []any {
	s := &r.s
	return []any{
		&s.ID, &s.Identity, &s.AppID, &s.Device, &r.person, &s.Ver, &s.Epoch, &s.Generation,
		into(&s.RotatedAt), into(&s.StartedAt), into(&s.IdleExpiresAt), into(&s.ExpiresAt), into(&s.EndedAt), &r.endReason,
		&r.externalID, &r.name,
	}
}

// session returns the scanned session.
func (r *sessionRow) session() auth.Session {
	s := r.s
	s.EndReason = auth.EndReason(r.endReason.String)
	if r.person.Valid {
		s.Person = &auth.Person{ID: r.person.UUID, ExternalID: r.externalID.String, Name: r.name.String}
	}
	return s
}
