package web_test

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
)

const formType = "application/x-www-form-urlencoded"

func readForm(t *testing.T, target, contentType string, body io.Reader) (web.Form, error) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, target, body)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return web.ReadForm(httptest.NewRecorder(), r)
}

func TestReadForm(t *testing.T) {
	t.Parallel()
	for _, contentType := range []string{
		formType, "Application/X-WWW-Form-URLEncoded", formType + "; charset=utf-8", formType + ";charset=UTF-8", formType + `; charset="utf-8"`,
		formType + "; charset=Utf-8; x=y", formType + ";",
	} {
		t.Run("a form is accepted as "+contentType, func(t *testing.T) {
			t.Parallel()
			form, err := readForm(t, "/", contentType, strings.NewReader("client_id=wx1&code=a%2Bb"))
			if d := cmp.Diff(web.Form{"client_id": "wx1", "code": "a+b"}, form); err != nil || d != "" {
				t.Errorf("form: error = %v (-want +got):\n%s", err, d)
			}
		})
	}
	for _, contentType := range []string{
		"", "application/json", "multipart/form-data; boundary=x", "text/plain", "application/x-www-form-urlencoded2", formType + "; charset=gbk",
		formType + "; charset=utf-16", formType + "; charset=utf8", formType + "; charset=", formType + "; charset", formType + ", application/json", "/", ";",
	} {
		t.Run("a form is refused as "+contentType, func(t *testing.T) {
			t.Parallel()
			form, err := readForm(t, "/", contentType, strings.NewReader("client_id=wx1"))
			if form != nil || !errors.Is(err, auth.UnsupportedMediaType) {
				t.Errorf("got %v, error %v", form, err)
			}
		})
	}
	t.Run("parameters in the URL are refused, even beside a good body", func(t *testing.T) {
		t.Parallel()
		for _, target := range []string{"/?code=SECRETCODE", "/?x", "/?client_id=wx1&refresh_token=SECRETCODE"} {
			form, err := readForm(t, target, formType, strings.NewReader("client_id=wx1"))
			if form != nil || !errors.Is(err, auth.InvalidRequest) || strings.Contains(err.Error(), "SECRETCODE") {
				t.Errorf("%s: got %v, error %v", target, form, err)
			}
		}
	})
	t.Run("a body may have at most 16 KiB", func(t *testing.T) {
		t.Parallel()
		full := "a=" + strings.Repeat("x", web.MaxFormBody-2)
		if form, err := readForm(t, "/", formType, strings.NewReader(full)); err != nil || len(form["a"]) != web.MaxFormBody-2 {
			t.Errorf("a body of 16 KiB: error %v", err)
		}
		for _, more := range []int{1, 1 << 20} {
			form, err := readForm(t, "/", formType, strings.NewReader(full+strings.Repeat("x", more)))
			if form != nil || !errors.Is(err, auth.BodyTooLarge) {
				t.Errorf("a body with %d more bytes: error %v", more, err)
			}
		}
	})
	t.Run("a larger Content-Length is refused without reading, and the connection is closed", func(t *testing.T) {
		t.Parallel()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", iotest.ErrReader(errors.New("it was read")))
		r.Header.Set("Content-Type", formType)
		r.ContentLength = web.MaxFormBody + 1
		w := httptest.NewRecorder()
		form, err := web.ReadForm(w, r)
		if form != nil || !errors.Is(err, auth.BodyTooLarge) || w.Header().Get("Connection") != "close" {
			t.Errorf("ReadForm() = %v, %v, headers %v; want body_too_large and Connection: close", form, err, w.Header())
		}
	})
	t.Run("two Content-Types are refused", func(t *testing.T) {
		t.Parallel()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("a=1"))
		r.Header["Content-Type"] = []string{formType, "application/json"}
		if form, err := web.ReadForm(httptest.NewRecorder(), r); form != nil || !errors.Is(err, auth.UnsupportedMediaType) {
			t.Errorf("got %v, error %v", form, err)
		}
	})
	t.Run("a body that arrives too slowly is refused with the reason", func(t *testing.T) {
		t.Parallel()
		body := io.MultiReader(strings.NewReader("client_id=wx1&co"), iotest.ErrReader(os.ErrDeadlineExceeded))
		var e *auth.Error
		if form, err := readForm(t, "/", formType, body); form != nil || !errors.As(err, &e) || e.Code != auth.InvalidRequest || !strings.Contains(e.Description, "too long") {
			t.Errorf("got %v, error %v", form, err)
		}
	})
	t.Run("a truncated body is the client's error", func(t *testing.T) {
		t.Parallel()
		body := io.MultiReader(strings.NewReader("client_id=wx1&co"), iotest.ErrReader(io.ErrUnexpectedEOF))
		if form, err := readForm(t, "/", formType, body); form != nil || !errors.Is(err, auth.InvalidRequest) {
			t.Errorf("got %v, error %v", form, err)
		}
	})
}

func TestParseForm(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		body string
		want web.Form
	}{
		"nothing":                         {"", web.Form{}},
		"one":                             {"a=1", web.Form{"a": "1"}},
		"the order does not matter":       {"b=2&a=1", web.Form{"a": "1", "b": "2"}},
		"an empty value counts as absent": {"a=&b=2", web.Form{"b": "2"}},
		"a name without a value counts as absent": {"a&b=2", web.Form{"b": "2"}},
		"empty pairs are ignored":                 {"&&a=1&&", web.Form{"a": "1"}},
		"plus and percent":                        {"device=Pixel+9%20%E9%B1%BC", web.Form{"device": "Pixel 9 鱼"}},
		"an equals sign in a value":               {"a=b=c", web.Form{"a": "b=c"}},
		"a percent-encoded ampersand":             {"a=b%26c%3Bd", web.Form{"a": "b&c;d"}},
		"names are case-sensitive":                {"a=1&A=2", web.Form{"a": "1", "A": "2"}},
		"bytes that are UTF-8 without escape":     {"a=鱼符", web.Form{"a": "鱼符"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := web.ParseForm(tc.body)
			if d := cmp.Diff(tc.want, got); err != nil || d != "" {
				t.Errorf("ParseForm() error = %v (-want +got):\n%s", err, d)
			}
		})
	}
	for name, body := range map[string]string{
		"a repeated parameter":                     "code=SECRETCODE&code=other",
		"a parameter repeated with the same value": "code=SECRETCODE&code=SECRETCODE",
		"a repeated parameter, once empty":         "code=SECRETCODE&code=",
		"a repeated parameter, twice empty":        "x=SECRETCODE&code=&code",
		"a repeated parameter, once escaped":       "code=SECRETCODE&c%6Fde=x",
		"a repeated unknown parameter":             "code=SECRETCODE&x=1&x=2",
		"NUL in a value":                           "code=SECRETCODE%00",
		"a bare NUL":                               "code=SECRETCODE\x00",
		"NUL in a name":                            "code%00=SECRETCODE",
		"invalid UTF-8 in a value":                 "code=SECRETCODE%ff",
		"half a surrogate pair":                    "code=SECRETCODE%ED%A0%80",
		"an overlong encoding":                     "code=SECRETCODE%C0%AF",
		"invalid UTF-8 in a name":                  "%fe=SECRETCODE",
		"invalid UTF-8 without escape":             "code=SECRETCODE\xff",
		"a semicolon as separator":                 "code=SECRETCODE;x=1",
		"an escape without digits":                 "code=SECRETCODE%",
		"an escape with one digit":                 "code=SECRETCODE%4",
		"a malformed escape":                       "code=SECRETCODE%zz",
		"a malformed escape in a name":             "%zzSECRETCODE=1",
	} {
		t.Run(name+" is refused and not quoted", func(t *testing.T) {
			t.Parallel()
			got, err := web.ParseForm(body)
			if got != nil || !errors.Is(err, auth.InvalidRequest) {
				t.Fatalf("%v, %v, want invalid_request", got, err)
			}
			if strings.Contains(err.Error(), "SECRETCODE") {
				t.Errorf("the error quotes the input: %v", err)
			}
		})
	}
}

func TestRequire(t *testing.T) {
	t.Parallel()
	form := web.Form{"a": "1"}
	if v, err := form.Require("a"); v != "1" || err != nil {
		t.Errorf("got %q, error %v", v, err)
	}
	var e *auth.Error
	if v, err := form.Require("b"); v != "" || !errors.As(err, &e) || e.Code != auth.InvalidRequest || e.Description != "The parameter b is missing." {
		t.Errorf("got %q, error %v", v, err)
	}
}

// FuzzParseForm checks that an accepted form is clean text with each parameter once, and
// that encoding and parsing it again gives the same form.
func FuzzParseForm(f *testing.F) {
	f.Fuzz(func(t *testing.T, body string) {
		form, err := web.ParseForm(body)
		if err != nil {
			if form != nil || auth.CodeOf(err) != auth.InvalidRequest {
				t.Fatalf("got %v, error %v", form, err)
			}
			return
		}
		again := url.Values{}
		for name, value := range form {
			if value == "" || !utf8.ValidString(name+value) || strings.Contains(name+value, "\x00") {
				t.Fatalf("the parameter %q has the value %q", name, value)
			}
			again.Set(name, value)
		}
		second, err := web.ParseForm(again.Encode())
		if err != nil || !maps.Equal(form, second) {
			t.Fatalf("the form %v is parsed again as %v, error %v", form, second, err)
		}
	})
}
