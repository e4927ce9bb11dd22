package cutoff_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
)

var now = time.Date(2026, 11, 22, 10, 0, 0, 500_000_000, time.UTC)

// The vectors in testdata are the wire format: other implementations may read
// them, so they change only together with the contract.
func TestVectors(t *testing.T) {
	t.Parallel()
	second := cutoff.Cutoff{Kind: cutoff.KindSession, Session: "01900000-0000-7c00-8000-00000000000b", Ver: 4}
	key := cutoff.Cutoff{Kind: cutoff.KindKey, KID: "FgjXsF2YFRcJ0ZmwHlL3WdOh7MXeqI4jaNYzWT8GeGY"}
	for name, events := range map[string][]cutoff.Event{
		"snapshot.sse": {
			cutoff.Cutoff{Kind: cutoff.KindSession, Session: "01900000-0000-7c00-8000-00000000000a"}.Event(""),
			cutoff.Cutoff{Kind: cutoff.KindApp, App: "wxdevelopment0001", Epoch: 3}.Event(""),
			cutoff.NewHeartbeat(12*time.Millisecond, now, 30*time.Second).Ready("7f3a.41", "wxdevelopment0001", "wxdevelopment0001", "wxdevelopment0002"),
			second.Event("7f3a.42"),
			key.Event("7f3a.43"),
			cutoff.NewHeartbeat(2*time.Millisecond+1, now.Add(5*time.Second), 30*time.Second).Event(),
		},
		"reset.sse": {
			cutoff.Reset(),
			cutoff.Cutoff{Kind: cutoff.KindApp, App: "wxdevelopment0001", Epoch: 9}.Event(""),
			cutoff.NewHeartbeat(0, now.Truncate(time.Second).In(time.FixedZone("", 8*3600)), 10*time.Second).Ready("91c0.2", ""),
		},
	} {
		want := vector(t, name)
		var got []byte
		for _, e := range events {
			got = cutoff.AppendEvent(got, e)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("AppendEvent() of %s wrote\n%s", name, got)
		}
		r := cutoff.NewReader(bytes.NewReader(want))
		for i, e := range events {
			if got, err := r.Next(); err != nil || !reflect.DeepEqual(got, e) {
				t.Errorf("%s: event %d: Next() = %s, error %v, want %s", name, i, got.Data, err, e.Data)
			}
		}
	}

	page := cutoff.Page{Cutoffs: []cutoff.Cutoff{second, key}, Next: "7f3a.43", AgeMS: 3, Now: now.Add(5 * time.Second), MaxStalenessMS: 30000, App: "wxdevelopment0001", Apps: []string{"wxdevelopment0001", "wxdevelopment0002"}}
	got, err := json.MarshalIndent(page, "", "  ")
	if want := vector(t, "page.json"); err != nil || !bytes.Equal(append(got, '\n'), want) {
		t.Errorf("page.json: MarshalIndent() =\n%s", got)
	}
}

func vector(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseCutoff(t *testing.T) {
	t.Parallel()
	t.Run("reads what Event wrote", func(t *testing.T) {
		t.Parallel()
		for _, c := range []cutoff.Cutoff{
			{Kind: cutoff.KindSession, Session: "s"},
			{Kind: cutoff.KindSession, Session: "s", Ver: 1 << 60},
			{Kind: cutoff.KindApp, App: "a", Epoch: 1},
			{Kind: cutoff.KindKey, KID: strings.Repeat("k", 128)},
		} {
			if got, err := cutoff.ParseCutoff(c.Event("").Data); err != nil || got != c {
				t.Errorf("ParseCutoff() of %+v = %+v, %v", c, got, err)
			}
		}
	})
	t.Run("skips members of a newer service", func(t *testing.T) {
		t.Parallel()
		got, err := cutoff.ParseCutoff([]byte(`{"kind":"key","kid":"k","why":{"x":[1]}}`))
		if want := (cutoff.Cutoff{Kind: cutoff.KindKey, KID: "k"}); err != nil || got != want {
			t.Errorf("ParseCutoff() = %+v, %v", got, err)
		}
	})
	t.Run("reports an unknown kind", func(t *testing.T) {
		t.Parallel()
		if _, err := cutoff.ParseCutoff([]byte(`{"kind":"person","person":"p"}`)); !errors.Is(err, cutoff.ErrUnknownKind) {
			t.Error(err)
		}
	})
	for name, data := range map[string]string{
		"nothing":               ``,
		"null":                  `null`,
		"a list":                `[]`,
		"no kind":               `{}`,
		"no session":            `{"kind":"session"}`,
		"a negative ver":        `{"kind":"session","session":"s","ver":-1}`,
		"a ver that is text":    `{"kind":"session","session":"s","ver":"1"}`,
		"a ver with a fraction": `{"kind":"session","session":"s","ver":1.5}`,
		"no app":                `{"kind":"app","epoch":1}`,
		"no epoch":              `{"kind":"app","app":"a"}`,
		"a negative epoch":      `{"kind":"app","app":"a","epoch":-1}`,
		"no kid":                `{"kind":"key"}`,
		"a name with a space":   `{"kind":"key","kid":"a b"}`,
		"a name too long":       `{"kind":"key","kid":"` + strings.Repeat("k", 129) + `"}`,
		"something behind":      `{"kind":"key","kid":"k"} {}`,
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			t.Parallel()
			c, err := cutoff.ParseCutoff([]byte(data))
			if !errors.Is(err, cutoff.ErrMalformed) && !errors.Is(err, cutoff.ErrUnknownKind) || c != (cutoff.Cutoff{}) {
				t.Errorf("ParseCutoff() = %+v, %v", c, err)
			}
		})
	}
}

func TestParseHeartbeat(t *testing.T) {
	t.Parallel()
	t.Run("reads what Event and Ready wrote, the age rounded up", func(t *testing.T) {
		t.Parallel()
		h := cutoff.NewHeartbeat(time.Millisecond+1, now.In(time.FixedZone("", 3600)), 30*time.Second)
		if h.AgeMS != 2 {
			t.Errorf("age_ms = %d", h.AgeMS)
		}
		for _, e := range []cutoff.Event{h.Event(), h.Ready("t.1", "wx1")} {
			if got, err := cutoff.ParseHeartbeat(e.Data); err != nil || got != h {
				t.Errorf("ParseHeartbeat() = %+v, %v, want %+v", got, err, h)
			}
		}
	})
	for _, data := range []string{
		``, `null`, `{}`, `[]`, `{"age_ms":1}`, `{"age_ms":-1,"now":"2026-11-22T10:00:00Z"}`,
		`{"age_ms":1,"now":"2026-11-22T10:00:00Z","max_staleness_ms":-1}`, `{"age_ms":1,"now":"yesterday"}`, `{"age_ms":"1","now":"2026-11-22T10:00:00Z"}`,
		`{"age_ms":1e30,"now":"2026-11-22T10:00:00Z"}`,
	} {
		if _, err := cutoff.ParseHeartbeat([]byte(data)); !errors.Is(err, cutoff.ErrMalformed) {
			t.Errorf("ParseHeartbeat(%s) error = %v", data, err)
		}
	}
}

func TestAppendEvent(t *testing.T) {
	t.Parallel()
	t.Run("appends", func(t *testing.T) {
		t.Parallel()
		if got := string(cutoff.AppendEvent([]byte("x"), cutoff.Event{Name: "n", Data: []byte("a\nb")})); got != "xevent: n\ndata: a\ndata: b\n\n" {
			t.Errorf("AppendEvent() = %q", got)
		}
	})
	for name, e := range map[string]cutoff.Event{
		"name": {Name: "a\nb"}, "id": {ID: "1\r"}, "id with NUL": {ID: "\x00"}, "data": {Data: []byte("a\rb")},
	} {
		t.Run("panics for a line break in the "+name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if recover() == nil {
					t.Error("AppendEvent() did not panic")
				}
			}()
			cutoff.AppendEvent(nil, e)
		})
	}
}
