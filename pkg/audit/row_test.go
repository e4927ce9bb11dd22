package audit_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/yufu-auth/yufu/pkg/audit"
	"github.com/yufu-auth/yufu/pkg/auth"
)

func TestNewRow(t *testing.T) {
	t.Parallel()
	e := auth.AuditEvent{Action: "test", Detail: map[string]any{"phone": "+86138****1001", "name": "李*", "method": "phone", "n": 1}}
	row, err := audit.NewRow(&e)
	if err != nil {
		t.Fatal(err)
	}
	if row.Detail != `{"method":"phone","n":1}` || len(e.Detail) != 4 {
		t.Errorf("Detail = %s, event %v; want what is not personal, and the event unchanged", row.Detail, e.Detail)
	}
	want := map[string]string{}
	for _, v := range row.Values {
		m := hmac.New(sha256.New, v.Salt)
		m.Write([]byte(v.Name + "\x00" + v.Value))
		want[v.Name] = base64.StdEncoding.EncodeToString(m.Sum(nil))
	}
	var got map[string]string
	if err := json.Unmarshal([]byte(row.Commitments), &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" || len(want) != 2 {
		t.Errorf("commitments (-want +got):\n%s", d)
	}
	again, err := audit.NewRow(&e)
	if err != nil || again.Commitments == row.Commitments {
		t.Errorf("commitments of a second event = %s, %v; want other salts", again.Commitments, err)
	}
	if row, err := audit.NewRow(&auth.AuditEvent{Detail: map[string]any{"phone": []string{"+8613800001001"}}}); err == nil {
		t.Errorf("NewRow() of a personal detail that is no string = %+v, want an error", row)
	}
	for name, e := range map[string]auth.AuditEvent{"no details": {}, "only details that are not personal": {Detail: map[string]any{"n": 1}}} {
		if row, err := audit.NewRow(&e); err != nil || row.Commitments != "" || row.Values != nil {
			t.Errorf("%s: NewRow() = %+v, %v; want no commitments", name, row, err)
		}
	}
}

func TestNewRecords(t *testing.T) {
	t.Parallel()
	stored := audit.Stored{
		Record: audit.Record{ID: 7, AuditEvent: auth.AuditEvent{Action: "test"}},
		Row: audit.Row{
			Detail: `{"n":12345678901234567890}`, Commitments: `{"phone":"AA==","name":"AA=="}`, Values: []audit.Value{{Name: "phone", Value: "1"}},
		},
	}
	got, err := audit.NewRecords([]audit.Stored{stored, {Record: audit.Record{ID: 8}}})
	if err != nil {
		t.Fatal(err)
	}
	want := []audit.Record{
		{ID: 7, AuditEvent: auth.AuditEvent{Action: "test", Detail: map[string]any{"n": json.Number("12345678901234567890"), "phone": "1"}}, Erased: []string{"name"}},
		{ID: 8},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("records (-want +got):\n%s", d)
	}
	stored.Row.Detail = `{`
	if _, err := audit.NewRecords([]audit.Stored{stored}); err == nil {
		t.Error("NewRecords() accepts a broken row")
	}
}
