package sqlite

import (
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// micros stores a time as microseconds since 1970; the zero time is NULL.
type micros time.Time

// Value implements [driver.Valuer].
func (m micros) Value() (driver.Value, error) {
	if time.Time(m).IsZero() {
		return nil, nil
	}
	return auth.StoredTime(time.Time(m)).UnixMicro(), nil
}

// into returns a scanner for a time.
func into(t *time.Time) sql.Scanner { return (*microsTarget)(t) }

type microsTarget time.Time

// Scan implements [sql.Scanner].
func (m *microsTarget) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*m = microsTarget{}
	case int64:
		*m = microsTarget(time.UnixMicro(v).UTC())
	default:
		return fmt.Errorf("a time must be stored as an integer, got %T", v)
	}
	return nil
}

// jsonList stores a list of strings as a JSON array; an empty one is read as nil.
type jsonList []string

// Value implements [driver.Valuer].
func (l jsonList) Value() (driver.Value, error) {
	if len(l) == 0 {
		return "[]", nil
	}
	j, err := json.Marshal([]string(l))
	return string(j), err
}

// Scan implements [sql.Scanner].
func (l *jsonList) Scan(v any) error {
	text, ok := v.(string)
	if !ok {
		return fmt.Errorf("a list must be stored as JSON text, got %T", v)
	}
	*l = nil
	if text == "[]" {
		return nil
	}
	return json.Unmarshal([]byte(text), (*[]string)(l))
}

// uuidOrNull and textOrNull turn a zero value into NULL.
func uuidOrNull(id uuid.UUID) uuid.NullUUID { return uuid.NullUUID{UUID: id, Valid: id != uuid.Nil} }

func textOrNull(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }

// blobOrNull turns nil into NULL; the driver would store it as an empty blob.
func blobOrNull(b []byte) any {
	if b == nil {
		return nil
	}
	return b
}
