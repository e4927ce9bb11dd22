package web

import (
	"bytes"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"os"
	"unicode/utf8"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// MaxFormBody bounds the body of a form request, in bytes. Valid forms have at most a
// few hundred.
const MaxFormBody = 16 << 10

const formType = "application/x-www-form-urlencoded"

// Form has the parameters of an OAuth request, each at most once.
type Form map[string]string

// ReadForm reads an application/x-www-form-urlencoded body by the rules of OAuth
// (RFC 6749 §3.2): parameters only in the body, no parameter repeated, parameters
// without a value count as absent, text in UTF-8 without NUL.
//
// Errors: [auth.InvalidRequest], [auth.UnsupportedMediaType],
// [auth.BodyTooLarge].
func ReadForm(w http.ResponseWriter, r *http.Request) (Form, error) {
	if r.URL.RawQuery != "" {
		return nil, auth.Invalid("Send the parameters in the body; URLs end up in logs.")
	}
	contentType := r.Header.Values("Content-Type")
	if len(contentType) != 1 {
		contentType = []string{""}
	}
	if contentType[0] != formType { // the usual case needs no parsing
		mediaType, params, err := mime.ParseMediaType(contentType[0])
		if err != nil || mediaType != formType {
			return nil, &auth.Error{Code: auth.UnsupportedMediaType, Description: "Send the parameters as application/x-www-form-urlencoded."}
		}
		if charset, ok := params["charset"]; ok && !isUTF8(charset) {
			return nil, &auth.Error{Code: auth.UnsupportedMediaType, Description: "Send the parameters in UTF-8."}
		}
	}
	body := newBuffer()
	defer freeBuffer(body)
	if err := readBody(w, r, MaxFormBody, body); err != nil {
		return nil, err
	}
	return ParseForm(body.String())
}

// readBody reads a body of at most maxBytes into an empty buffer.
func readBody(w http.ResponseWriter, r *http.Request, maxBytes int64, body *bytes.Buffer) error {
	if r.ContentLength > maxBytes {
		// Do not wait for the body or ask for it (Expect: 100-continue).
		return tooLarge(w)
	}
	_, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, maxBytes))
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		return tooLarge(w)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &auth.Error{Code: auth.InvalidRequest, Description: "The body took too long to arrive.", Err: err}
	case err != nil:
		return &auth.Error{Code: auth.InvalidRequest, Description: "The body is malformed, or it ended early.", Err: err}
	}
	return nil
}

// tooLarge refuses a body. It closes the connection after the answer, so that the rest
// of the body is not read.
func tooLarge(w http.ResponseWriter) error {
	w.Header().Set("Connection", "close")
	return auth.BodyTooLarge
}

// ParseForm parses an urlencoded form body strictly; see [ReadForm].
func ParseForm(body string) (Form, error) {
	// url.ParseQuery's own errors quote the input, which may be a token.
	values, err := url.ParseQuery(body)
	if err != nil {
		return nil, auth.Invalid("The form is not valid application/x-www-form-urlencoded.")
	}
	form := make(Form, len(values))
	for name, v := range values {
		if len(v) > 1 {
			return nil, auth.Invalid(auth.Named("parameter", name) + " is repeated.")
		}
		if !validText(name) || !validText(v[0]) {
			return nil, auth.Invalid(auth.Named("parameter", name) + " must be UTF-8 text without NUL characters.")
		}
		if v[0] != "" {
			form[name] = v[0]
		}
	}
	return form, nil
}

// Require returns a parameter's value, or an error that names it.
func (f Form) Require(name string) (string, error) {
	if v := f[name]; v != "" {
		return v, nil
	}
	return "", auth.Invalid("The parameter " + name + " is missing.")
}

func validText(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for i := range len(s) {
		if s[i] == 0 {
			return false
		}
	}
	return true
}

func isUTF8(charset string) bool {
	return len(charset) == 5 && (charset[0]|0x20) == 'u' && (charset[1]|0x20) == 't' && (charset[2]|0x20) == 'f' && charset[3:] == "-8"
}
