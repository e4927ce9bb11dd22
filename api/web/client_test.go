package web_test

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/api/web"
	"github.com/yufu-auth/yufu/pkg/auth"
)

func basic(userinfo string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(userinfo))
}

func TestPublicClient(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		form   web.Form
		header []string
		want   string
		err    auth.Code
	}{
		"in the body":                                 {form: web.Form{"client_id": "wx1"}, want: "wx1"},
		"as Basic with an empty secret":               {header: []string{basic("wx1:")}, want: "wx1"},
		"the scheme in another case":                  {header: []string{strings.Replace(basic("wx1:"), "Basic", "bAsIc", 1)}, want: "wx1"},
		"two spaces after the scheme":                 {header: []string{strings.Replace(basic("wx1:"), " ", "  ", 1)}, want: "wx1"},
		"percent-encoded, as the RFC says":            {header: []string{basic("wx%31%2B:")}, want: "wx1+"},
		"a plus is a space there":                     {header: []string{basic("wx+1:")}, want: "wx 1"},
		"both ways, the same":                         {form: web.Form{"client_id": "wx1"}, header: []string{basic("wx1:")}, want: "wx1"},
		"both ways, the same after decoding":          {form: web.Form{"client_id": "wx1"}, header: []string{basic("wx%31:")}, want: "wx1"},
		"an empty secret parameter is absent":         {form: web.Form{"client_id": "wx1", "client_secret": ""}, want: "wx1"},
		"both ways, not the same":                     {form: web.Form{"client_id": "wx1"}, header: []string{basic("wx2:")}, err: auth.InvalidRequest},
		"in the body, and an empty Basic":             {form: web.Form{"client_id": "wx1"}, header: []string{basic(":")}, err: auth.InvalidRequest},
		"no client_id":                                {err: auth.InvalidRequest},
		"an empty Basic":                              {header: []string{basic(":")}, err: auth.InvalidRequest},
		"a secret in the body":                        {form: web.Form{"client_id": "wx1", "client_secret": "SECRET"}, err: auth.ClientSecretUnexpected},
		"a secret as Basic":                           {header: []string{basic("wx1:SECRET")}, err: auth.ClientSecretUnexpected},
		"a secret with colons":                        {header: []string{basic("wx1::SECRET")}, err: auth.ClientSecretUnexpected},
		"an escaped secret":                           {header: []string{basic("wx1:%53ECRET")}, err: auth.ClientSecretUnexpected},
		"Basic beside a secret in the body":           {form: web.Form{"client_secret": "SECRET"}, header: []string{basic("wx1:")}, err: auth.ClientSecretUnexpected},
		"Basic without a colon":                       {header: []string{basic("wx1")}, err: auth.InvalidRequest},
		"Basic with a malformed escape":               {header: []string{basic("wx1%zz:")}, err: auth.InvalidRequest},
		"Basic with a malformed escape in the secret": {header: []string{basic("wx1:%zz")}, err: auth.InvalidRequest},
		"Basic with a NUL":                            {header: []string{basic("wx1%00:")}, err: auth.InvalidRequest},
		"Basic with invalid UTF-8":                    {header: []string{basic("wx1\xff:")}, err: auth.InvalidRequest},
		"Basic that is not base64":                    {header: []string{"Basic wx1:"}, err: auth.InvalidRequest},
		"Basic in the URL-safe alphabet":              {header: []string{"Basic " + base64.URLEncoding.EncodeToString([]byte("wx>>>???:"))}, err: auth.InvalidRequest},
		"Basic without credentials":                   {header: []string{"Basic "}, err: auth.InvalidRequest},
		"only the scheme":                             {header: []string{"Basic"}, err: auth.InvalidRequest},
		"an empty header":                             {header: []string{""}, err: auth.InvalidRequest},
		"a bearer token":                              {form: web.Form{"client_id": "wx1"}, header: []string{"Bearer SECRET"}, err: auth.InvalidRequest},
		"two headers":                                 {header: []string{basic("wx1:"), basic("wx1:")}, err: auth.InvalidRequest},
		"two headers, the second with a secret":       {header: []string{basic("wx1:"), basic("wx1:SECRET")}, err: auth.InvalidRequest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", nil)
			r.Header["Authorization"] = tc.header
			got, err := web.PublicClient(r, tc.form)
			if got != tc.want || auth.CodeOf(err) != tc.err {
				t.Errorf("got %q, error %v; want %q, %q", got, err, tc.want, tc.err)
			}
			if err != nil && strings.Contains(err.Error(), "SECRET") {
				t.Errorf("the error quotes the secret: %v", err)
			}
		})
	}
}

func TestBearerToken(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		target string
		header []string
		want   string
		err    auth.Code
	}{
		"in the header":                    {header: []string{"Bearer abc.def"}, want: "abc.def"},
		"the scheme in another case":       {header: []string{"bEARER abc"}, want: "abc"},
		"spaces around it":                 {header: []string{"Bearer   abc  "}, want: "abc"},
		"no header":                        {err: auth.TokenMissing},
		"an empty header":                  {header: []string{""}, err: auth.TokenMissing},
		"only the scheme":                  {header: []string{"Bearer"}, err: auth.TokenMissing},
		"the scheme and spaces":            {header: []string{"Bearer   "}, err: auth.TokenMissing},
		"another scheme":                   {header: []string{basic("wx1:")}, err: auth.TokenMissing},
		"a scheme that begins like Bearer": {header: []string{"BearerX abc"}, err: auth.TokenMissing},
		"no scheme":                        {header: []string{"abc.def.ghi"}, err: auth.TokenMissing},
		"two headers":                      {header: []string{"Bearer abc", "Bearer abc"}, err: auth.InvalidRequest},
		"in the URL":                       {target: "/?access_token=SECRET", err: auth.InvalidRequest},
		"in the URL, empty":                {target: "/?access_token", err: auth.InvalidRequest},
		"in the URL and in the header":     {target: "/?access_token=SECRET", header: []string{"Bearer abc"}, err: auth.InvalidRequest},
		"in the URL, escaped":              {target: "/?access%5Ftoken=SECRET", err: auth.InvalidRequest},
		"other parameters are ignored":     {target: "/?x=1", header: []string{"Bearer abc"}, want: "abc"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := tc.target
			if target == "" {
				target = "/"
			}
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
			r.Header["Authorization"] = tc.header
			got, err := web.BearerToken(r)
			if got.Reveal() != tc.want || auth.CodeOf(err) != tc.err {
				t.Errorf("got %q, error %v; want %q, %q", got.Reveal(), err, tc.want, tc.err)
			}
			if errors.Is(err, auth.InvalidRequest) && strings.Contains(err.Error(), "SECRET") {
				t.Errorf("the error quotes the token: %v", err)
			}
		})
	}
}
