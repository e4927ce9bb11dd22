package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// MaxJSONBody bounds the body of a JSON request, in bytes.
const MaxJSONBody = 64 << 10

// ReadJSON reads a JSON body into *v, strictly: one object in UTF-8, whose members are
// members of v, each at most once and in the exact spelling.
//
// Errors: [auth.InvalidRequest], [auth.UnsupportedMediaType],
// [auth.BodyTooLarge]. They quote only names of members ([auth.Named]), because the
// body may contain a token.
func ReadJSON[T any](w http.ResponseWriter, r *http.Request, v *T) error {
	mediaType, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/json" {
		return &auth.Error{Code: auth.UnsupportedMediaType, Description: "Send the body as application/json."}
	}
	if charset, ok := params["charset"]; ok && !isUTF8(charset) {
		return &auth.Error{Code: auth.UnsupportedMediaType, Description: "Send the body in UTF-8."}
	}
	var body bytes.Buffer
	if err := readBody(w, r, MaxJSONBody, &body); err != nil {
		return err
	}
	return parseJSON(body.Bytes(), v)
}

func parseJSON[T any](body []byte, v *T) error {
	if !validText(string(body)) {
		return auth.Invalid("The body must be UTF-8 text without NUL characters.")
	}
	names := memberNames(reflect.TypeFor[T]())
	if err := checkMembers(body, names); err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		// The library's own errors quote the input.
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) && wrong.Field != "" {
			member := wrong.Field
			if embedded, rest, ok := strings.Cut(member, "."); ok && !names[embedded] {
				member = rest // the path begins with a Go type's name
			}
			return auth.Invalid("The member " + member + " has the wrong type.")
		}
		return auth.Invalid(auth.Named("member", wrongMember[T](body)) + " has an invalid value.")
	}
	return nil
}

// wrongMember returns the name of the first member that does not fit T, or "".
func wrongMember[T any](body []byte) string {
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil {
		return ""
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		one, err := json.Marshal(map[string]json.RawMessage{name: members[name]})
		if err == nil && json.Unmarshal(one, new(T)) != nil {
			return name
		}
	}
	return ""
}

// memberNames returns the names of a struct's members in JSON.
func memberNames(t reflect.Type) map[string]bool {
	names := map[string]bool{}
	for _, f := range reflect.VisibleFields(t) { // also those of embedded structs
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			names[name] = true
		}
	}
	return names
}

// checkMembers refuses what encoding/json accepts: unknown members, repeated members,
// names in another case, and text after the object.
func checkMembers(body []byte, known map[string]bool) error {
	d := json.NewDecoder(bytes.NewReader(body))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return auth.Invalid("The body is not a JSON object.")
	}
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return auth.Invalid("The body is not JSON.")
		}
		name, _ := t.(string)
		switch {
		case !known[name]:
			return auth.Unexpected("body", "member", name, slices.Collect(maps.Keys(known)))
		case seen[name]:
			return auth.Invalid("The member " + name + " is repeated.")
		}
		seen[name] = true
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return auth.Invalid("The body is not JSON.")
		}
	}
	if _, err := d.Token(); err != nil {
		return auth.Invalid("The body is not JSON.")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return auth.Invalid("The body has data after the JSON object.")
	}
	return nil
}
