package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// PersonRecord is the whole row of a person. Tokens and answers show only the [Person]
// in it.
type PersonRecord struct {
	Person
	// Phone is the number in E.164 form ("+8613800001001"), unique, or empty.
	// Logs and the audit trail show it masked ([MaskPhone]), and the admin API unless
	// the service key has the scope openid.
	Phone string
	// Attributes are a JSON object as [CleanAttributes] returns it.
	Attributes json.RawMessage
	// Facts are the names of the person's facts, sorted. The facts themselves
	// are kept as MACs and cannot be read.
	Facts []string
	// Source says how the person was created.
	Source PersonSource
	// Disabled persons' identities neither exchange nor refresh.
	Disabled bool
	// CreatedAt and UpdatedAt are in UTC.
	CreatedAt, UpdatedAt time.Time
}

// PersonSource says how a person was created.
type PersonSource string

// The sources.
const (
	PersonByAdmin   PersonSource = "admin"
	PersonByPhone   PersonSource = "phone"
	PersonByWebhook PersonSource = "webhook"
)

// Limits of a person. Lengths are in characters, except that of the attributes.
const (
	MaxExternalIDLen = 255
	MaxPersonNameLen = 255
	// MaxAttributesLen is in bytes of JSON.
	MaxAttributesLen = 4096
)

// CleanExternalID returns the business's id of a person, trimmed and without
// [Invisible] characters, or an [InvalidRequest] error.
func CleanExternalID(s string) (string, error) {
	s, ok := cleanLine(s, MaxExternalIDLen)
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if Invisible(r) {
			return -1
		}
		return r
	}, s))
	if !ok || s == "" {
		return "", Invalid("external_id must be text of 1 to 255 characters without control characters")
	}
	return s, nil
}

// CleanPersonName returns a person's name, trimmed and without what [StripMarks]
// removes, or an [InvalidRequest] error. It may be empty.
func CleanPersonName(s string) (string, error) {
	s, ok := cleanLine(s, MaxPersonNameLen)
	if !ok {
		return "", Invalid("name must be text of at most 255 characters without control characters")
	}
	return s, nil
}

// cleanLine returns a line of text, trimmed and without what [StripMarks] removes. It
// returns false if the text is not clean or has more than this number of characters.
func cleanLine(s string, characters int) (string, bool) {
	if len(s) > 4*characters || !utf8.ValidString(s) {
		return "", false
	}
	s = StripMarks(s)
	if !CleanText(s) {
		return "", false
	}
	s = strings.TrimSpace(s)
	return s, utf8.RuneCountInString(s) <= characters
}

// CleanAttributes returns attributes as they are stored: one compact JSON object, its
// members sorted, at most [MaxAttributesLen] long. It returns an empty object for empty
// input and null, and an [InvalidRequest] error for any other input.
func CleanAttributes(b []byte) (json.RawMessage, error) {
	if len(b) > 4*MaxAttributesLen {
		return nil, errAttributesLen
	}
	if b = bytes.TrimSpace(b); len(b) == 0 || string(b) == "null" {
		return json.RawMessage("{}"), nil
	}
	var object map[string]any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber() // keep numbers as they were written
	if err := d.Decode(&object); err != nil || !utf8.Valid(b) {
		return nil, Invalid("attributes must be a JSON object")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, Invalid("attributes must be one JSON object without data after it")
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(object); err != nil {
		return nil, Invalid("attributes must be a JSON object")
	}
	clean := bytes.TrimSpace(out.Bytes())
	switch {
	case len(clean) > MaxAttributesLen:
		return nil, errAttributesLen
	case bytes.Contains(clean, []byte(`\u0000`)):
		return nil, Invalid("attributes must not contain NUL characters")
	}
	return clean, nil
}

var errAttributesLen = Invalid("attributes must have at most 4096 bytes")

// CleanPhone returns a phone number in E.164 form (ITU-T E.164: a plus sign, a
// country code and at most 15 digits in all). A number without a country code must be a
// mobile number of mainland China, perhaps after 86. White space, dashes, dots, slashes,
// brackets, full-width digits and [Invisible] characters are allowed; any other
// character is an [InvalidRequest] error.
func CleanPhone(s string) (string, error) {
	const longest = 128 // bytes
	var b strings.Builder
	if len(s) > longest {
		return "", errPhone
	}
	for _, r := range s {
		switch {
		case '0' <= r && r <= '9':
			b.WriteRune(r)
		case '０' <= r && r <= '９':
			b.WriteRune(r - '０' + '0')
		case (r == '+' || r == '＋' || r == '﹢') && b.Len() == 0:
			b.WriteByte('+')
		case unicode.IsSpace(r), Invisible(r), unicode.Is(unicode.Dash, r), strings.ContainsRune(".．·•・／/()（）", r):
		default:
			return "", errPhone
		}
	}
	n := b.String()
	mobile := func(n string) bool { return len(n) == 11 && n[0] == '1' && n[1] >= '3' }
	if rest, ok := strings.CutPrefix(n, "00"); ok {
		n = "+" + rest
	} else if rest, ok := strings.CutPrefix(n, "86"); ok && mobile(rest) {
		n = "+" + n
	} else if mobile(n) {
		n = "+86" + n
	}
	if !ValidPhone(n) || strings.HasPrefix(n, "+86") && len(n) < len("+86")+10 {
		return "", errPhone
	}
	return n, nil
}

var errPhone = Invalid("phone must be a number in E.164 form, like +8613800001001")

// MaskPhone masks a number so that its owner recognises it: +86138****1001 for
// +8613800001001.
func MaskPhone(s string) string {
	const hidden, shown = 4, 4
	if len(s) < 1+hidden+shown {
		return strings.Repeat("*", len(s))
	}
	return s[:len(s)-hidden-shown] + strings.Repeat("*", hidden) + s[len(s)-shown:]
}

// MaskName masks a name so that its owner recognises it and other people do not learn
// it: 李* for 李雷, 欧*修 for 欧阳修.
func MaskName(s string) string {
	const maxStars = 4
	r := []rune(strings.TrimSpace(s))
	switch n := len(r); n {
	case 0:
		return ""
	case 1:
		return "*"
	case 2:
		return string(r[0]) + "*"
	default:
		return string(r[0]) + strings.Repeat("*", min(n-2, maxStars)) + string(r[n-1])
	}
}
