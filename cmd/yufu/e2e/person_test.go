package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/yufu-auth/yufu/db/pgtest"
)

// importer is a deployment with the settings of yufu person.
type importer struct {
	*service
	env settings
	p   *process
}

func newImporter(h *harness, databaseURL string) *importer {
	h.t.Helper()
	d := deploy(h, databaseURL)
	p, s := d.serve("yufu", "--migrate")
	d.addApp()
	s.adminKey = d.serviceKey("admin,openid")
	return &importer{s, settings{"YUFU_ADMIN_URL": s.admin, "YUFU_ADMIN_KEY_FILE": h.file("admin.key", s.adminKey+"\n")}, p}
}

// counts fails the test unless the output has these counts.
func (i *importer) counts(t *testing.T, r result, code int, want string) {
	t.Helper()
	if r.code != code || !strings.Contains(r.stdout, want) {
		t.Errorf("exit code %d, want %d; %s%s", r.code, code, r.stdout, r.stderr)
	}
}

// found returns the persons with an external_id.
func (i *importer) found(id string) []map[string]any {
	i.t.Helper()
	var list struct {
		Persons []map[string]any `json:"persons"`
	}
	a := i.admins("GET", "/admin/v1/persons?external_id="+id, "")
	if err := json.Unmarshal([]byte(a.Body), &list); err != nil {
		i.t.Fatal(err)
	}
	return list.Persons
}

func TestPersonImport(t *testing.T) {
	t.Parallel()
	for store, empty := range map[string]func(*testing.T) string{
		"PostgreSQL": func(t *testing.T) string { return pgtest.Empty(t) },
		"SQLite":     func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "yufu.db") },
	} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			database := empty(t)
			i := newImporter(h, database)

			t.Run("a table is imported except for its invalid rows, which are reported by line", func(t *testing.T) {
				i := &importer{i.in(t), i.env, i.p}
				var csv strings.Builder
				csv.WriteString("\uFEFFexternal_id,name,phone,fact.employee_no,fact.name,attr.dept\r\n")
				for n := range 1200 {
					fmt.Fprintf(&csv, "E%d,员工%d,138%08d,%d,员工%d,销售\r\n", n, n, n, n, n)
				}
				csv.WriteString("E1200,甲,13800000007,,,\r\nE1201,\"乙,,,,\r\n,丙,,,,\r\nE1203,丁,12,,,\r\nE1204,戊,,,,\r\n")
				file := h.file("persons.csv", csv.String())
				// A dry run does not detect a phone that is repeated in another batch.
				i.counts(t, i.run(i.env, "", "person", "import", file, "--dry-run"), 1, "1,202 would be created, 0 would be updated, 0 unchanged, 3 refused")
				if len(i.found("E1")) != 0 {
					t.Fatal("the dry run wrote persons")
				}
				r := i.run(i.env, "", "person", "import", file, "--reason", "入职")
				i.counts(t, r, 1, "1,201 created, 0 updated, 0 unchanged, 4 refused")
				if !strings.Contains(r.stderr, "persons.csv.errors.csv") {
					t.Errorf("stderr = %s, want the name of the report", r.stderr)
				}
				report, err := os.ReadFile(file + ".errors.csv")
				if err != nil {
					t.Fatal(err)
				}
				lines := strings.Split(strings.TrimSpace(string(report)), "\n")
				for n, want := range []string{"line,external_id,code,detail", "1202,E1200,person_conflict,", "1203,,invalid_row,", "1204,,invalid_row,", "1205,E1203,invalid_request,"} {
					if n >= len(lines) || !strings.HasPrefix(lines[n], want) {
						t.Fatalf("the report is\n%s", report)
					}
				}
				if p := i.found("E7"); len(p) != 1 || p[0]["phone"] != "+8613800000007" || p[0]["name"] != "员工7" {
					t.Errorf("persons = %v, want one with the number and the name of E7", p)
				}
				i.counts(t, i.run(i.env, "", "person", "import", file), 1, "0 created, 0 updated, 1,201 unchanged, 4 refused")
				i.counts(t, i.run(i.env, "", "person", "import", file, "--from-line", "1206"), 0, "0 created, 0 updated, 1 unchanged, 0 refused")
				if _, err := os.Stat(file + ".errors.csv"); !os.IsNotExist(err) {
					t.Errorf("a report without rows was written (error %v)", err)
				}
			})

			t.Run("lines of JSON are read from standard input", func(t *testing.T) {
				i := &importer{i.in(t), i.env, i.p}
				r := i.run(i.env, `{"external_id":"N1","facts":{"id_no":"1","old":"2"}}`+"\n"+`{"external_id":"N1","name":"庚","facts":{"old":null}}`+"\n",
					"person", "import", "-", "--format", "ndjson", "--report", filepath.Join(t.TempDir(), "report.csv"))
				i.counts(t, r, 0, "1 created, 1 updated, 0 unchanged, 0 refused")
				if p := i.found("N1"); len(p) != 1 || p[0]["name"] != "庚" || fmt.Sprint(p[0]["facts"]) != "[id_no]" {
					t.Errorf("persons = %v, want one named 庚 with only the fact id_no", p)
				}
			})

			t.Run("a person is listed without the number, disabled and enabled", func(t *testing.T) {
				i := &importer{i.in(t), i.env, i.p}
				out := i.mustRun(i.env, "", "person", "list", "--external-id", "E7")
				if !strings.Contains(out, "+86138****0007") || strings.Contains(out, "13800000007") || !strings.Contains(out, "enabled") {
					t.Errorf("person list = %s, want the masked number and enabled", out)
				}
				i.mustRun(i.env, "", "person", "disable", "E7", "--reason", "离职")
				if out := i.mustRun(i.env, "", "person", "list", "--external-id", "E7"); !strings.Contains(out, "disabled") {
					t.Errorf("person list = %s, want disabled", out)
				}
				i.mustRun(i.env, "", "person", "enable", "E7")
				events := i.mustRun(i.env, "", "audit", "list", "--since", "1h", "--action", "person.disabled")
				if !strings.Contains(events, "离职") || !strings.Contains(events, "service_key:") || !strings.Contains(events, "person=") {
					t.Errorf("audit list = %s, want the person, the actor and the reason", events)
				}
				exported := i.mustRun(i.env, "", "audit", "export")
				if n := strings.Count(exported, "\n"); n < 3 || strings.Count(exported, `"action":"person.imported"`) == 0 {
					t.Errorf("audit export = %s, want a line for each event", exported)
				}
				if r := i.run(i.env, "", "person", "disable", "unknown"); r.code != 1 || !strings.Contains(r.stderr, "no person has this external_id") {
					t.Errorf("exit code = %d: %s", r.code, r.stderr)
				}
			})

			t.Run("Ctrl-C ends the import, and the output says where to continue", func(t *testing.T) {
				i := &importer{i.in(t), i.env, i.p}
				in, out := io.Pipe()
				defer out.Close()
				// The import sends its second batch when it has the answer to the first, which it
				// may have to send twice. The second gets no answer.
				var held atomic.Bool
				target, err := url.Parse(i.admin)
				if err != nil {
					t.Fatal(err)
				}
				forward := httputil.NewSingleHostReverseProxy(target)
				front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					body, err := io.ReadAll(r.Body) // otherwise the server does not notice that the client hangs up
					if err != nil {
						return
					}
					if bytes.Contains(body, []byte(`"C500"`)) {
						held.Store(true)
						<-r.Context().Done()
						return
					}
					r.Body = io.NopCloser(bytes.NewReader(body))
					forward.ServeHTTP(w, r)
				}))
				t.Cleanup(front.Close)
				p := i.prepare("yufu person import -", i.env.with(settings{"YUFU_ADMIN_URL": front.URL}), in,
					"person", "import", "-", "--format", "csv", "--report", filepath.Join(t.TempDir(), "report.csv"))
				i.launch(p)
				go func() {
					fmt.Fprintln(out, "external_id,name")
					for n := range 1100 { // more than two batches, without an end
						fmt.Fprintf(out, "C%d,%s\n", n, strings.Repeat("x", 100))
					}
				}()
				i.eventually("the second batch is on its way", held.Load)
				p.signal(syscall.SIGINT)
				if err := out.CloseWithError(io.EOF); err != nil { // os/exec copies from it until it ends
					t.Fatal(err)
				}
				if code := p.wait(); code != 1 || !strings.Contains(p.stderr.String(), "--from-line 502") {
					t.Errorf("exit code %d: %s", code, p.stderr)
				}
				if first, second := i.found("C499"), i.found("C500"); len(first) != 1 || len(second) != 0 {
					t.Errorf("the last row of the first batch is stored %d times, the first of the second %d times", len(first), len(second))
				}
			})

			// The table has a phone of another person.
			wantNothingPersonal(t, i.p, i.service, database)
		})
	}
}

func TestPersonImportRefuses(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	i := newImporter(h, "sqlite:"+h.file("yufu.db", ""))
	good := h.file("good.csv", "external_id\n1\n")
	reader := i.admins("POST", "/admin/v1/service-keys", `{"name":"reader","scope":"read"}`)
	var key struct{ Key string }
	if err := json.Unmarshal([]byte(reader.Body), &key); err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		env  settings
		args []string
		code int
		want string
	}{
		"no key":                           {settings{"YUFU_ADMIN_KEY_FILE": ""}, []string{good}, 2, "YUFU_ADMIN_KEY_FILE is missing"},
		"a key without scope":              {settings{"YUFU_ADMIN_KEY_FILE": h.file("read.key", key.Key)}, []string{good}, 1, "insufficient_scope"},
		"a malformed key":                  {settings{"YUFU_ADMIN_KEY_FILE": h.file("no.key", "hello")}, []string{good}, 1, "service_key_invalid"},
		"no address":                       {settings{"YUFU_ADMIN_URL": "localhost:8081"}, []string{good}, 2, "YUFU_ADMIN_URL"},
		"no file":                          {nil, []string{filepath.Join(t.TempDir(), "none.csv")}, 2, "no such file"},
		"a folder":                         {nil, []string{t.TempDir() + "/"}, 2, "directory"},
		"an unknown name":                  {nil, []string{h.file("persons.txt", "external_id\n")}, 2, "--format"},
		"an unknown column":                {nil, []string{h.file("x.csv", "external_id,email\n")}, 2, "is not a column"},
		"GBK":                              {nil, []string{h.file("gbk.csv", "external_id,name\n1,\xc0\xee\n")}, 2, "not UTF-8"},
		"the input as the report":          {nil, []string{good, "--report", good}, 2, "--report is the file"},
		"a reason with control characters": {nil, []string{good, "--reason", "\a"}, 2, "--reason"},
	}
	t.Run("each is refused", func(t *testing.T) { // groups the parallel subtests
		for name, c := range cases {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				r := i.in(t).run(i.env.with(c.env), "", append([]string{"person", "import"}, c.args...)...)
				if r.code != c.code || !strings.Contains(r.stderr, c.want) {
					t.Errorf("exit code %d: %s", r.code, r.stderr)
				}
			})
		}
	})
	if len(i.found("1")) != 0 {
		t.Error("a refused import wrote a person")
	}
}
