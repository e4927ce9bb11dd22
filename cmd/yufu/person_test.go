package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/pkg/netreason/netreasontest"
)

// YUFU_ADMIN_URL is typed by hand; what is there may be anything.
func TestPersonElsewhere(t *testing.T) {
	key := write(t, "admin.key", "yfk_0123456789abcdef_"+strings.Repeat("A", 43))
	file := write(t, "persons.csv", "external_id\n1\n")
	nobody := "http://" + netreasontest.UnusedAddr(t)
	commands := map[string][]string{
		"list":    {"person", "list"},
		"disable": {"person", "disable", "1"},
		"import":  {"person", "import", file},
	}
	for name, args := range commands {
		for answer, status := range map[string]int{"a page": http.StatusOK, "no such page": http.StatusNotFound, "nothing": http.StatusNoContent} {
			t.Run(name+" is told "+answer, func(t *testing.T) {
				s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "text/html")
					w.WriteHeader(status)
				}))
				defer s.Close()
				got := try(t, map[string]string{"YUFU_ADMIN_URL": s.URL, "YUFU_ADMIN_KEY_FILE": key}, "", args...)
				if got.code != 1 || !strings.Contains(got.errOut, "YUFU_ADMIN_URL names an address where another server answers") {
					t.Errorf("%+v", got)
				}
			})
		}
	}
	for _, name := range []string{"list", "disable"} { // an import waits for the service to come back
		t.Run(name+" meets nobody", func(t *testing.T) {
			got := try(t, map[string]string{"YUFU_ADMIN_URL": nobody, "YUFU_ADMIN_KEY_FILE": key}, "", commands[name]...)
			if got.code != 1 || !strings.Contains(got.errOut, "YUFU_ADMIN_URL names an address that does not answer: "+nobody+"; check that yufu serve or yufu dev is running there") {
				t.Errorf("%+v", got)
			}
		})
	}
}
