package audit

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// Row is what a store keeps of an event besides its plain columns.
type Row struct {
	// Detail is a JSON object of what is not personal, or empty.
	Detail string
	// Commitments is a JSON object that has a commitment for each personal value, or empty.
	Commitments string
	// Values are the personal values.
	Values []Value
}

// Value is a personal value of an event. An erasure deletes it; the event keeps the
// commitment.
type Value struct {
	Name, Value string
	// Salt is random, so that a commitment does not reveal a value that can be guessed.
	Salt []byte
}

const saltSize = 16

// commitment is the HMAC-SHA-256 of name, NUL and value under the salt.
func (v *Value) commitment() []byte {
	m := hmac.New(sha256.New, v.Salt)
	m.Write([]byte(v.Name + "\x00" + v.Value))
	return m.Sum(nil)
}

// NewRow divides the details of an event into those that stay for ever and the personal
// ones.
func NewRow(e *auth.AuditEvent) (Row, error) {
	var row Row
	detail := maps.Clone(e.Detail)
	commitments := map[string][]byte{}
	for _, name := range auth.PersonalDetails() {
		text, personal := detail[name].(string)
		if !personal {
			continue
		}
		v := Value{Name: name, Value: text, Salt: make([]byte, saltSize)}
		_, _ = rand.Read(v.Salt) // never fails: crypto/rand aborts the program instead
		delete(detail, name)
		commitments[name] = v.commitment()
		row.Values = append(row.Values, v)
	}
	var err error
	if row.Detail, err = object(detail); err != nil {
		return Row{}, fmt.Errorf("audit: detail of %s: %w", e.Action, err)
	}
	row.Commitments, err = object(commitments)
	return row, err
}

// object returns a map as JSON, and "" for an empty one.
func object[V any](m map[string]V) (string, error) {
	if len(m) == 0 {
		return "", nil
	}
	j, err := json.Marshal(m)
	return string(j), err
}

// Record is an event as it is read: with its id, and with the personal values that have
// not been erased among its details.
type Record struct {
	// ID is unique and names no order: a greater one may have been committed earlier.
	ID int64
	auth.AuditEvent

	// Erased names the personal details whose values are gone.
	Erased []string
}

// Stored is a row as a store reads it.
type Stored struct {
	ID                                      int64
	At                                      time.Time
	Action, Actor, AppID, Reason, RequestID string
	Identity, Session, Person               uuid.UUID
	// Detail, Commitments and Values are those of [Row]; values may have been erased.
	Row
}

// NewRecords returns the records of stored rows.
func NewRecords(rows []Stored) ([]Record, error) {
	all := make([]Record, len(rows))
	for i := range rows {
		var err error
		if all[i], err = newRecord(&rows[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func newRecord(s *Stored) (Record, error) {
	r := Record{ID: s.ID, AuditEvent: auth.AuditEvent{
		At: s.At, Action: auth.AuditAction(s.Action), Actor: s.Actor, AppID: s.AppID, Identity: s.Identity,
		Session: s.Session, Person: s.Person, Reason: s.Reason, RequestID: s.RequestID,
	}}
	var commitments map[string][]byte
	for _, part := range []struct {
		json string
		into any
	}{{s.Detail, &r.Detail}, {s.Commitments, &commitments}} {
		if part.json == "" {
			continue
		}
		d := json.NewDecoder(strings.NewReader(part.json))
		d.UseNumber()
		if err := d.Decode(part.into); err != nil {
			return Record{}, fmt.Errorf("audit: row %d: %w", s.ID, err)
		}
	}
	if r.Detail == nil && len(commitments) > 0 {
		r.Detail = map[string]any{}
	}
	for _, name := range slices.Sorted(maps.Keys(commitments)) {
		i := slices.IndexFunc(s.Values, func(v Value) bool { return v.Name == name })
		if i < 0 {
			r.Erased = append(r.Erased, name)
			continue
		}
		r.Detail[name] = s.Values[i].Value
	}
	return r, nil
}
