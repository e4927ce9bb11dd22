package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// Bounds of an answer.
const (
	// MaxAnswer is its maximum size in bytes, white space included.
	MaxAnswer = 64 << 10
	// MaxAttributes is the maximum size of the attributes in bytes, without white
	// space.
	MaxAttributes = 4 << 10
	// MaxText is the maximum length of an external_id, a name and a message for the
	// user, in characters.
	MaxText = 255
	// maxDepth is the maximum nesting depth of attributes.
	maxDepth = 8
)

// Person is the person in the back end's answer.
type Person struct {
	// ExternalID is the business's own id; it is never empty.
	ExternalID string
	// Name is for display; it is never empty.
	Name string
	// Phone is in the form of E.164, or empty when the answer has none.
	Phone string
	// Attributes is a JSON object without white space, or nil when the answer has
	// none.
	Attributes json.RawMessage
}

// decodeAnswer decodes the body of an answer. The error is a [*Refused], or says what is
// wrong without quoting the body.
func decodeAnswer(body []byte) (Person, error) {
	if !utf8.Valid(body) {
		return Person{}, errors.New("not UTF-8")
	}
	answer, err := members(body, "person", "refused")
	if err != nil {
		return Person{}, err
	}
	switch person, refused := answer["person"], answer["refused"]; {
	case person != nil && refused != nil:
		return Person{}, errors.New("both person and refused are set")
	case person != nil:
		return decodePerson(person)
	case refused != nil:
		return Person{}, decodeRefusal(refused)
	}
	return Person{}, errors.New("neither person nor refused is set")
}

func decodePerson(raw json.RawMessage) (p Person, err error) {
	m, err := members(raw, "external_id", "name", "phone", "attributes")
	if err != nil {
		return Person{}, inside("person", err)
	}
	if p.ExternalID, err = decodeText(m["external_id"]); err != nil {
		return Person{}, inside("person.external_id", err)
	}
	if p.Name, err = decodeText(m["name"]); err != nil {
		return Person{}, inside("person.name", err)
	}
	if raw := m["phone"]; raw != nil {
		if json.Unmarshal(raw, &p.Phone) != nil || !auth.ValidPhone(p.Phone) {
			return Person{}, errors.New("person.phone: not a number like +8613800001001")
		}
	}
	if raw := m["attributes"]; raw != nil {
		if p.Attributes, err = decodeAttributes(raw); err != nil {
			return Person{}, inside("person.attributes", err)
		}
	}
	return p, nil
}

func decodeRefusal(raw json.RawMessage) error {
	m, err := members(raw, "user_message")
	if err != nil {
		return inside("refused", err)
	}
	// Line breaks become spaces; the client wraps lines itself.
	var message string
	if json.Unmarshal(m["user_message"], &message) == nil && m["user_message"] != nil {
		message = strings.Join(strings.Fields(message), " ")
	}
	if err := checkText(message); err != nil {
		return inside("refused.user_message", err)
	}
	return &Refused{UserMessage: message}
}

func inside(where string, err error) error { return errors.New(where + ": " + err.Error()) }

// members decodes a JSON object whose members have these names, each at most once. A
// null member counts as missing. encoding/json would accept "Person" for "person", and
// take the last of several members.
func members(raw []byte, names ...string) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	found, seen := make(map[string]json.RawMessage), make(map[string]bool)
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, errors.New("not a JSON object")
		}
		switch {
		case !slices.Contains(names, name):
			return nil, errors.New("unknown member; allowed members: " + strings.Join(names, ", "))
		case seen[name]:
			return nil, errors.New(name + " is repeated")
		}
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return nil, errors.New("not JSON")
		}
		if seen[name] = true; string(value) != "null" {
			found[name] = value
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, errors.New("not a JSON object")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("data after the JSON object")
	}
	return found, nil
}

// decodeText decodes a required text. It removes surrounding white space and invisible
// marks.
func decodeText(raw json.RawMessage) (string, error) {
	if raw == nil {
		return "", errors.New("missing")
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return "", errors.New("not a string")
	}
	s = strings.TrimSpace(auth.StripMarks(s))
	return s, checkText(s)
}

func checkText(s string) error {
	switch {
	case s == "":
		return errors.New("missing or empty")
	case utf8.RuneCountInString(s) > MaxText:
		return errors.New("longer than 255 characters")
	case !auth.CleanText(s):
		return errors.New("control characters are not allowed")
	}
	return nil
}

// decodeAttributes decodes a JSON object and returns it in the same form for every
// database: without white space, names sorted, each once.
func decodeAttributes(raw json.RawMessage) (json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var value map[string]any
	if d.Decode(&value) != nil || value == nil {
		return nil, errors.New("not a JSON object")
	}
	if err := checkValue(value, maxDepth); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return nil, errors.New("not a JSON object")
	}
	out := bytes.TrimRight(b.Bytes(), "\n")
	if len(out) > MaxAttributes {
		return nil, errors.New("more than 4 KiB")
	}
	return out, nil
}

// checkValue refuses values that a database would not store unchanged.
func checkValue(v any, depth int) error {
	if depth == 0 {
		return errors.New("nested too deep")
	}
	switch v := v.(type) {
	case string:
		if !auth.CleanText(v) {
			return errors.New("control characters are not allowed")
		}
	case json.Number:
		if f, err := v.Float64(); err != nil || math.IsInf(f, 0) {
			return errors.New("a number is too large")
		}
	case []any:
		for _, item := range v {
			if err := checkValue(item, depth-1); err != nil {
				return err
			}
		}
	case map[string]any:
		for name, item := range v {
			if !auth.CleanText(name) {
				return errors.New("control characters are not allowed")
			}
			if err := checkValue(item, depth-1); err != nil {
				return err
			}
		}
	}
	return nil
}
