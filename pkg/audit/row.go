package audit

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

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
// ones. It returns an error if a personal one is not a string.
func NewRow(e *auth.AuditEvent) (Row, error) {
	var row Row
	detail := maps.Clone(e.Detail)
	commitments := map[string][]byte{}
	for _, name := range auth.PersonalDetails() {
		value, personal := detail[name]
		if !personal {
			continue
		}
		text, ok := value.(string)
		if !ok {
			// As another type it would stay in the event for ever.
			return Row{}, fmt.Errorf("audit: the personal detail %s of %s is a %T, want a string", name, e.Action, value)
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

// Stored is a row as a store reads it: the plain columns in Record, the others in Row.
type Stored struct {
	Record
	Row
}

// NewRecords returns the records of stored rows, with their details.
func NewRecords(rows []Stored) ([]Record, error) {
	all := make([]Record, len(rows))
	for i := range rows {
		if err := rows[i].open(); err != nil {
			return nil, fmt.Errorf("audit: row %d: %w", rows[i].ID, err)
		}
		all[i] = rows[i].Record
	}
	return all, nil
}

// open reads the columns of Row into the record.
func (s *Stored) open() error {
	var commitments map[string][]byte
	if err := errors.Join(decode(s.Row.Detail, &s.Record.Detail), decode(s.Commitments, &commitments)); err != nil {
		return err
	}
	if s.Record.Detail == nil && len(commitments) > 0 {
		s.Record.Detail = map[string]any{}
	}
	for _, name := range slices.Sorted(maps.Keys(commitments)) {
		i := slices.IndexFunc(s.Values, func(v Value) bool { return v.Name == name })
		if i < 0 {
			s.Erased = append(s.Erased, name)
			continue
		}
		s.Record.Detail[name] = s.Values[i].Value
	}
	return nil
}

// decode reads a JSON object, or nothing from "". Numbers stay as they are written.
func decode(object string, into any) error {
	if object == "" {
		return nil
	}
	d := json.NewDecoder(strings.NewReader(object))
	d.UseNumber()
	return d.Decode(into)
}
