package adminclient_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/pkg/adminclient"
)

// server answers everything alike, and tells what it was asked.
func server(t *testing.T, status int, header http.Header, body string) (url string, asked func() []*http.Request) {
	t.Helper()
	var requests []*http.Request
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests = append(requests, r)
		for name, values := range header {
			w.Header()[name] = values
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	return s.URL, func() []*http.Request { return requests }
}

func revoke(t *testing.T, url string) error {
	t.Helper()
	c, err := adminclient.New(url, "yfk_x")
	if err != nil {
		t.Fatal(err)
	}
	all := true
	answer, err := c.CreateRevocationWithResponse(t.Context(), adminclient.RevocationRequest{All: &all})
	if err != nil {
		t.Fatal(err)
	}
	return adminclient.Failure(answer)
}

func TestNew(t *testing.T) {
	t.Parallel()
	t.Run("sends the key, at the address as it is written", func(t *testing.T) {
		t.Parallel()
		url, asked := server(t, 200, http.Header{"Content-Type": {"application/json"}}, `{}`)
		for _, address := range []string{url, url + "/"} {
			if err := revoke(t, address); err != nil {
				t.Error(err)
			}
		}
		for _, r := range asked() {
			if r.Header.Get("Authorization") != "Bearer yfk_x" || r.URL.Path != "/admin/v1/revocations" || r.Header.Get("Content-Type") != "application/json" {
				t.Errorf("asked %s %s %v", r.Method, r.URL, r.Header)
			}
		}
	})
	t.Run("takes the key nowhere else", func(t *testing.T) {
		t.Parallel()
		elsewhere, asked := server(t, 200, nil, `{}`)
		url, _ := server(t, 307, http.Header{"Location": {elsewhere}}, "")
		var e *adminclient.Error
		if err := revoke(t, url); !errors.As(err, &e) || e.StatusCode != 307 {
			t.Errorf("error %v", err)
		}
		if len(asked()) > 0 {
			t.Error("it followed the redirect")
		}
	})
}

func TestFailure(t *testing.T) {
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
			url, _ := server(t, 404, http.Header{"Content-Type": {tc.contentType}}, tc.body)
			err := revoke(t, url)
			var e *adminclient.Error
			if !errors.As(err, &e) || e.StatusCode != 404 || err.Error() != tc.want {
				t.Errorf("error %v, want %s", err, tc.want)
			}
			if (e.Problem.Code == "not_found") != strings.Contains(tc.body, "not_found") {
				t.Errorf("%+v", e.Problem)
			}
		})
	}
}
