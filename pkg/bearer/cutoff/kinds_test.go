package cutoff_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
)

func TestParseKinds(t *testing.T) {
	t.Parallel()
	many := strings.Repeat("session,", 15)
	for query, want := range map[string][]cutoff.Kind{
		"":                        nil,
		"session,app,key":         nil,
		cutoff.Query():            nil,
		"session,app,key,person":  {"person"},
		"person":                  {"person"},
		"person,,Person,per son,": {"person"},
		"person,../x,a\x00b":      {"person"},
		many + "person":           {"person"},
		many + "key,person":       nil,
		strings.Repeat("x", 33):   nil,
		strings.Repeat("x", 1e6):  nil,
		strings.Repeat(",", 1e6):  nil,
	} {
		if got := cutoff.ParseKinds(query); !reflect.DeepEqual(got, want) {
			t.Errorf("ParseKinds(%.40q) = %q, want %q", query, got, want)
		}
	}
	if got, want := cutoff.Query(), "session,app,key"; got != want {
		t.Errorf("Query() = %q, want %q", got, want)
	}
}
