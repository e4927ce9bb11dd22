package e2e

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/yufu-auth/yufu/db/pgtest"
	"github.com/yufu-auth/yufu/pkg/adminclient"
)

// address is the fixed address of the process that serves at the time.
type address struct {
	url string
	to  atomic.Pointer[url.URL]
}

func newAddress(t *testing.T) *address {
	t.Helper()
	a := &address{}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(a.to.Load()) },
		FlushInterval: -1,
		ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	srv := httptest.NewServer(proxy)
	t.Cleanup(srv.Close)
	a.url = srv.URL
	return a
}

func (a *address) lead(s *service) {
	s.t.Helper()
	to, err := url.Parse(s.base)
	if err != nil {
		s.t.Fatal(err)
	}
	a.to.Store(to)
}

// TestRestoredDatabase restores a backup while only a back end runs, which has a
// revocation from after the backup.
func TestRestoredDatabase(t *testing.T) {
	t.Parallel()
	for kind, database := range map[string]func(t *testing.T, h *harness) (url string, backUp, restore func()){
		"PostgreSQL": func(t *testing.T, _ *harness) (string, func(), func()) {
			dsn := pgtest.Empty(t)
			exec := func(sql string) {
				t.Helper()
				conn, err := pgx.Connect(t.Context(), dsn)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close(t.Context())
				if _, err := conn.Exec(t.Context(), sql); err != nil {
					t.Fatal(err)
				}
			}
			return dsn,
				func() { exec(`create table kept_apps as table apps; create table kept_cutoffs as table cutoffs`) },
				func() {
					exec(`update apps a set epoch = k.epoch from kept_apps k where k.appid = a.appid;
truncate cutoffs; insert into cutoffs overriding system value table kept_cutoffs`)
				}
		},
		"SQLite": func(t *testing.T, h *harness) (string, func(), func()) {
			path, backup := h.file("yufu.db", ""), filepath.Join(t.TempDir(), "backup.db")
			return "sqlite:" + path,
				func() { h.sqlite3(path, `.backup `+backup) },
				func() {
					for _, journal := range []string{"-wal", "-shm"} {
						if err := os.RemoveAll(path + journal); err != nil {
							t.Fatal(err)
						}
					}
					if err := os.Rename(backup, path); err != nil {
						t.Fatal(err)
					}
				}
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			databaseURL, backUp, restore := database(t, h)
			d := deploy(h, databaseURL)
			yufu := newAddress(t)
			p, s := d.serve("yufu", "--migrate")
			yufu.lead(s)
			ready := func(s *service) *answer { return s.must(s.get(s.admin+"/readyz", "")) }
			h.eventually("it is ready", func() bool { return ready(s).Status == http.StatusOK })
			d.addApp()
			admin, reader := d.serviceKey("admin"), d.serviceKey("service")
			o := h.backEnd("orders", yufu.url, reader)
			accepts := func(token string) func() bool {
				return func() bool { return o.status("/orders", token) == http.StatusOK }
			}
			first := s.logIn("alice").Doc
			h.eventually("the back end accepts a token", accepts(first.AccessToken))
			backUp()
			s.revoke(s.client(admin), adminclient.Revocation{App: testApp})
			h.eventually("the back end refuses it", func() bool { return o.status("/orders", first.AccessToken) == http.StatusUnauthorized })
			p.kill()
			restore()

			p, s = d.serve("yufu with the backup")
			yufu.lead(s)
			h.eventually("readyz says what to do", func() bool {
				r := ready(s)
				return r.Status == http.StatusServiceUnavailable && strings.Contains(r.Doc.Reason, "yufu migrate --restored")
			})
			if a, err := s.tryExchange("alice"); err != nil || a.Status != http.StatusServiceUnavailable {
				t.Errorf("a login meanwhile: answer %+v, error %v, want 503", a, err)
			}
			if a, err := s.tryRefresh(first.RefreshToken); err != nil || a.Status != http.StatusServiceUnavailable {
				t.Errorf("a refresh meanwhile: answer %+v, error %v, want 503", a, err)
			}

			h.mustRun(d.env, "", "migrate", "--restored")
			h.eventually("it is ready", func() bool { return ready(s).Status == http.StatusOK })
			s.refresh(first.RefreshToken).want(s, 400, "refresh_invalid")
			h.eventually("the back end accepts a new token", accepts(s.logIn("alice").Doc.AccessToken))
			p.stop()

			_, s = d.serve("yufu, restarted")
			h.eventually("it is ready at once", func() bool { return ready(s).Status == http.StatusOK })
		})
	}
}
