package adminclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/adminclient"
)

const key = "yfk_0123456789abcdef_secret"

// request is a request that the server received.
type request struct {
	*http.Request
	body string
}

// server gives every request the same answer, and records the requests.
func server(t *testing.T, status int, header http.Header, body string) (address string, asked func() []request) {
	t.Helper()
	var requests []request
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		requests = append(requests, request{r, string(b)})
		for name, values := range header {
			w.Header()[name] = values
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return s.URL, func() []request { return requests }
}

func asJSON() http.Header { return http.Header{"Content-Type": {"application/json"}} }

func client(t *testing.T, address string) *adminclient.Client {
	t.Helper()
	c, err := adminclient.New(adminclient.Config{URL: address, ServiceKey: key})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func revoke(t *testing.T, address string) error {
	t.Helper()
	_, err := client(t, address).Revoke(context.Background(), adminclient.Revocation{All: true})
	return err
}

func TestNew(t *testing.T) {
	t.Parallel()
	t.Run("sends the key to the given address", func(t *testing.T) {
		t.Parallel()
		address, asked := server(t, 200, asJSON(), `{}`)
		for _, a := range []string{address, address + "/"} {
			if err := revoke(t, a); err != nil {
				t.Error(err)
			}
		}
		for _, r := range asked() {
			if r.Header.Get("Authorization") != "Bearer "+key || r.URL.Path != "/admin/v1/revocations" ||
				r.Header.Get("Content-Type") != "application/json" || r.body != `{"all":true}` {
				t.Errorf("request = %s %s %v %s", r.Method, r.URL, r.Header, r.body)
			}
		}
	})
	t.Run("sends the key to no other address", func(t *testing.T) {
		t.Parallel()
		elsewhere, asked := server(t, 200, asJSON(), `{}`)
		address, _ := server(t, 307, http.Header{"Location": {elsewhere}}, "")
		var follows http.Client // follows redirects by default
		c, err := adminclient.New(adminclient.Config{URL: address, ServiceKey: key, HTTPClient: &follows})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Revoke(context.Background(), adminclient.Revocation{All: true})
		var e *adminclient.Error
		if !errors.As(err, &e) || e.StatusCode != 307 {
			t.Errorf("Revoke() error = %v, want status 307", err)
		}
		if len(asked()) > 0 || follows.CheckRedirect != nil {
			t.Error("it followed the redirect, or changed the caller's client")
		}
	})
	for name, c := range map[string]adminclient.Config{
		"no address":             {ServiceKey: key},
		"no scheme":              {URL: "127.0.0.1:8081", ServiceKey: key},
		"another scheme":         {URL: "ftp://127.0.0.1", ServiceKey: key},
		"a user in the address":  {URL: "http://u:" + key + "@127.0.0.1", ServiceKey: key},
		"a query":                {URL: "http://127.0.0.1/?a=1", ServiceKey: key},
		"no key":                 {URL: "http://127.0.0.1"},
		"a key with a line feed": {URL: "http://127.0.0.1", ServiceKey: key + "\n"},
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			t.Parallel()
			if _, err := adminclient.New(c); err == nil || strings.Contains(err.Error(), "secret") {
				t.Errorf("New() error = %v, want one without the key", err)
			}
		})
	}
}

func TestTheKeyAndTheQueryAreInNoText(t *testing.T) {
	t.Parallel()
	address, _ := server(t, 200, asJSON(), `{}`)
	c := client(t, address)
	phone := "13800001001"
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := c.ListPersons(ctx, adminclient.PersonQuery{Phone: &phone})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("ListPersons() error = %v, want context.Canceled", err)
	}
	for _, text := range []string{err.Error(), fmt.Sprintf("%+v %#v %+v", c, c, *c)} {
		if strings.Contains(text, "secret") || strings.Contains(text, phone) {
			t.Errorf("the error contains the key or the query: %s", text)
		}
	}
}

func TestError(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		contentType, body, want string
	}{
		"a problem": {
			"application/problem+json", `{"type":"urn:yufu:problem:not_found","title":"No.","status":404,"code":"not_found","request_id":"R1"}`,
			"yufu admin API: not_found (404): No. (request R1)",
		},
		"a problem with a detail": {
			"application/problem+json", `{"title":"No.","detail":"No such thing.","status":404,"code":"not_found","request_id":"R1"}`,
			"yufu admin API: not_found (404): No such thing. (request R1)",
		},
		"a proxy's page": {"text/html", "<html>no</html>", "yufu admin API: HTTP status 404"},
		"nothing":        {"", "", "yufu admin API: HTTP status 404"},
	} {
		t.Run(name+" is an error", func(t *testing.T) {
			t.Parallel()
			address, _ := server(t, 404, http.Header{"Content-Type": {tc.contentType}, "Retry-After": {"7"}}, tc.body)
			err := revoke(t, address)
			var e *adminclient.Error
			if !errors.As(err, &e) || e.StatusCode != 404 || err.Error() != tc.want || e.RetryAfter != 7*time.Second {
				t.Errorf("Revoke() error = %v after %+v, want %s", err, e, tc.want)
			}
			if (adminclient.CodeOf(err) == adminclient.CodeNotFound) != strings.Contains(tc.body, "not_found") {
				t.Errorf("CodeOf() = %q", adminclient.CodeOf(err))
			}
		})
	}
	for name, header := range map[string]http.Header{"a page": {"Content-Type": {"text/html"}}, "broken JSON": asJSON()} {
		t.Run(name+" with status 200 is an error", func(t *testing.T) {
			t.Parallel()
			address, _ := server(t, 200, header, "<html>{}")
			var e *adminclient.Error
			if err := revoke(t, address); !errors.As(err, &e) || e.StatusCode != 200 || !strings.Contains(err.Error(), "another server") {
				t.Errorf("Revoke() error = %v, want that another server answered", err)
			}
		})
	}
	t.Run("an answer without end is an error", func(t *testing.T) {
		t.Parallel()
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for block := strings.Repeat(" ", 1<<20); ; {
				if _, err := io.WriteString(w, block); err != nil {
					return
				}
			}
		}))
		t.Cleanup(s.Close)
		if err := revoke(t, s.URL); err == nil || !strings.Contains(err.Error(), "longer than") {
			t.Errorf("Revoke() error = %v, want that the answer is too long", err)
		}
	})
}

func TestQueries(t *testing.T) {
	t.Parallel()
	address, asked := server(t, 200, asJSON(), `{}`)
	c := client(t, address)
	ctx, id, empty, plus := context.Background(), uuid.UUID{15: 1}, "", "+86 1"
	for _, call := range []error{
		second(c.ListPersons(ctx, adminclient.PersonQuery{})),
		second(c.ListPersons(ctx, adminclient.PersonQuery{ExternalID: &empty, Phone: &plus, Page: adminclient.Page{Limit: 2, Cursor: "c"}})),
		second(c.ListIdentities(ctx, adminclient.IdentityQuery{Person: &id, App: &plus})),
		second(c.RevokeServiceKey(ctx, "a/b", adminclient.KeyRevocation{Descendants: true, Reason: "r"})),
		second(c.ImportPersons(ctx, strings.NewReader("{}\n"), adminclient.Import{DryRun: true})),
		c.EraseIdentity(ctx, id, ""),
	} {
		if call != nil {
			t.Error(call)
		}
	}
	want := []string{
		"GET /admin/v1/persons",
		"GET /admin/v1/persons?cursor=c&external_id=&limit=2&phone=" + url.QueryEscape(plus),
		"GET /admin/v1/identities?app=" + url.QueryEscape(plus) + "&person=" + id.String(),
		"DELETE /admin/v1/service-keys/a%2Fb?descendants=true&reason=r",
		"POST /admin/v1/persons/import?dry_run=true",
		"DELETE /admin/v1/identities/" + id.String(),
	}
	for i, r := range asked() {
		if got := r.Method + " " + r.RequestURI; got != want[i] {
			t.Errorf("request %d = %s, want %s", i, got, want[i])
		}
	}
	if r := asked()[4]; r.Header.Get("Content-Type") != "application/x-ndjson" || r.body != "{}\n" {
		t.Errorf("import request: Content-Type and body = %s %q", r.Header.Get("Content-Type"), r.body)
	}
}

func second[A any](_ A, err error) error { return err }

func TestPages(t *testing.T) {
	t.Parallel()
	serve := func(t *testing.T, pages map[string]string) *adminclient.Client {
		t.Helper()
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			page, ok := pages[r.URL.Query().Get("cursor")]
			if !ok || r.URL.Query().Get("limit") != "2" {
				w.WriteHeader(http.StatusBadRequest)
			}
			_, _ = io.WriteString(w, page)
		}))
		t.Cleanup(s.Close)
		return client(t, s.URL)
	}
	read := func(c *adminclient.Client, most int) (ids []string, err error) {
		for app, err := range c.Apps(context.Background(), adminclient.Page{Limit: 2}) {
			if err != nil {
				return ids, err
			}
			if ids = append(ids, app.AppID); len(ids) == most {
				break
			}
		}
		return ids, nil
	}
	two := map[string]string{"": `{"apps":[{"appid":"a"},{"appid":"b"}],"next":"b"}`, "b": `{"apps":[{"appid":"c"}],"next":null}`}
	for name, tc := range map[string]struct {
		pages map[string]string
		most  int
		want  string
		fails bool
	}{
		"all pages are read":                 {two, 0, "a b c", false},
		"reading stops when the caller does": {map[string]string{"": two[""]}, 2, "a b", false},
		"an error ends the list":             {map[string]string{"": two[""]}, 0, "a b", true},
		"a page that repeats is an error":    {map[string]string{"": two[""], "b": two[""]}, 0, "a b", true},
		"an empty list":                      {map[string]string{"": `{"apps":[],"next":null}`}, 0, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ids, err := read(serve(t, tc.pages), tc.most)
			if got := strings.Join(ids, " "); got != tc.want || (err != nil) != tc.fails {
				t.Errorf("Apps() = %q, %v; want %q and error %t", got, err, tc.want, tc.fails)
			}
		})
	}
}
