package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/pkg/netreason/netreasontest"
)

// TestPersonElsewhere checks the errors of an address that is not the admin API's: the
// operator types YUFU_ADMIN_URL by hand.
func TestPersonElsewhere(t *testing.T) {
	key := write(t, "admin.key", "yfk_0123456789abcdef_"+strings.Repeat("A", 43))
	file := write(t, "persons.csv", "external_id\n1\n")
	unused := "http://" + netreasontest.UnusedAddr(t)
	commands := map[string][]string{
		"list":    {"person", "list"},
		"audit":   {"audit", "list"},
		"export":  {"audit", "export"},
		"disable": {"person", "disable", "1"},
		"import":  {"person", "import", file},
	}
	for name, args := range commands {
		for answer, status := range map[string]int{"a page": http.StatusOK, "no such page": http.StatusNotFound, "nothing": http.StatusNoContent} {
			t.Run(name+" at a server that answers "+answer, func(t *testing.T) {
				s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "text/html")
					w.WriteHeader(status)
				}))
				defer s.Close()
				got := try(t, map[string]string{"YUFU_ADMIN_URL": s.URL, "YUFU_ADMIN_KEY_FILE": key}, "", args...)
				if got.code != 1 || !strings.Contains(got.errOut, "YUFU_ADMIN_URL names an address where another server answers") {
					t.Errorf("%v; want an error that another server answers", got)
				}
			})
		}
	}
	t.Run("list at another server, by the flag", func(t *testing.T) {
		s := httptest.NewServer(http.NotFoundHandler())
		defer s.Close()
		got := try(t, nil, "", "person", "list", "--admin-url", s.URL, "--admin-key-file", key)
		if got.code != 1 || !strings.HasPrefix(got.errOut, "yufu: --admin-url names an address where another server answers") {
			t.Errorf("%v; want an error that names the flag", got)
		}
	})
	for _, name := range []string{"list", "disable", "audit", "export"} { // an import waits for the service to come back
		t.Run(name+" at an address that does not answer", func(t *testing.T) {
			got := try(t, map[string]string{"YUFU_ADMIN_URL": unused, "YUFU_ADMIN_KEY_FILE": key}, "", commands[name]...)
			if got.code != 1 || !strings.Contains(got.errOut, "YUFU_ADMIN_URL names an address that does not answer: "+unused+"; check that yufu serve or yufu dev is running there") {
				t.Errorf("%v; want an error that the address does not answer", got)
			}
		})
	}
}
