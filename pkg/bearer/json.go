package bearer

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// encoding/json is too lenient for tokens: of two members with one name it takes the
// last, it matches struct fields in any case, and it repairs broken UTF-8. The functions
// here do not. They expect JSON that encoding/json has found well-formed; for anything
// else they return false.

// maxMembers is the maximum number of members of an object, so that the search for
// repeated names is fast. maxDepth is the maximum nesting of values.
const (
	maxMembers = 64
	maxDepth   = 8
)

// members calls visit for each member of an object, with the name between its quotes and
// the raw value, until visit returns false. members returns false if visit did, if a name
// is repeated, escaped or not UTF-8, or if there are too many members.
func members(data []byte, visit func(name string, value []byte) bool) bool {
	var seen [maxMembers][]byte
	n := 0
	s := scanner{data: data}
	if !s.take('{') {
		return false
	}
	if s.take('}') {
		return s.atEnd()
	}
	for {
		name := s.value()
		if len(name) < 2 || name[0] != '"' || n == maxMembers {
			return false
		}
		name = name[1 : len(name)-1]
		if bytes.IndexByte(name, '\\') >= 0 || !utf8.Valid(name) {
			return false
		}
		for _, other := range seen[:n] {
			if bytes.Equal(name, other) {
				return false
			}
		}
		seen[n] = name
		n++
		if !s.take(':') {
			return false
		}
		value := s.value()
		if len(value) == 0 || !visit(string(name), value) {
			return false
		}
		if s.take(',') {
			continue
		}
		return s.take('}') && s.atEnd()
	}
}

// elements calls visit for each element of an array, until visit returns false.
func elements(data []byte, visit func(value []byte) bool) bool {
	s := scanner{data: data}
	if !s.take('[') {
		return false
	}
	if s.take(']') {
		return s.atEnd()
	}
	for {
		value := s.value()
		if len(value) == 0 || !visit(value) {
			return false
		}
		if s.take(',') {
			continue
		}
		return s.take(']') && s.atEnd()
	}
}

// strict reports whether objects inside a value also meet the rules of members. It is
// used for values that are not read otherwise, so that no program can read them in two
// ways.
func strict(value []byte) bool { return strictTo(value, maxDepth) }

func strictTo(value []byte, depth int) bool {
	switch {
	case depth == 0:
		return false
	case value[0] == '{':
		return members(value, func(_ string, v []byte) bool { return strictTo(v, depth-1) })
	case value[0] == '[':
		return elements(value, func(v []byte) bool { return strictTo(v, depth-1) })
	case value[0] == '-' || (value[0] >= '0' && value[0] <= '9'):
		_, err := strconv.ParseFloat(string(value), 64)
		return err == nil // some decoders do not support larger numbers
	default:
		return true
	}
}

// scanner finds where JSON values end, without further parsing.
type scanner struct {
	data []byte
	at   int
}

func (s *scanner) space() {
	for s.at < len(s.data) {
		switch s.data[s.at] {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return
		}
	}
}

// take skips white space, and then c if it is next.
func (s *scanner) take(c byte) bool {
	s.space()
	if s.at < len(s.data) && s.data[s.at] == c {
		s.at++
		return true
	}
	return false
}

func (s *scanner) atEnd() bool {
	s.space()
	return s.at == len(s.data)
}

// value returns the next value, or nil.
func (s *scanner) value() []byte {
	s.space()
	begin, depth := s.at, 0
	for s.at < len(s.data) {
		switch s.data[s.at] {
		case '"':
			if !s.text() {
				return nil
			}
			if depth == 0 {
				return s.data[begin:s.at]
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return s.data[begin:s.at]
			}
			if depth--; depth == 0 {
				s.at++
				return s.data[begin:s.at]
			}
		case ',', ':', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return s.data[begin:s.at]
			}
		}
		s.at++
	}
	if depth != 0 {
		return nil
	}
	return s.data[begin:]
}

// text skips a string from its first quote to after its last.
func (s *scanner) text() bool {
	for s.at++; s.at < len(s.data); s.at++ {
		switch s.data[s.at] {
		case '\\':
			s.at++
		case '"':
			s.at++
			return true
		}
	}
	return false
}

// textOf returns the string that a value is. It does not repair broken UTF-8.
func textOf(value []byte) (string, bool) {
	if len(value) < 2 || value[0] != '"' || !utf8.Valid(value) {
		return "", false
	}
	if bytes.IndexByte(value, '\\') < 0 {
		return string(value[1 : len(value)-1]), true
	}
	var s string
	err := json.Unmarshal(value, &s)
	return s, err == nil
}

// integerOf returns the integer that a value is: no fraction, no exponent.
func integerOf(value []byte) (int64, bool) {
	n, err := strconv.ParseInt(string(value), 10, 64)
	return n, err == nil
}

// boolOf returns the boolean that a value is.
func boolOf(value []byte) (b, ok bool) {
	switch string(value) {
	case "true":
		return true, true
	case "false":
		return false, true
	default:
		return false, false
	}
}
