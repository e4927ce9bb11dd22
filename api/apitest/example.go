package apitest

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/yufu-auth/yufu/api"
)

// SameMembers fails the test unless an answer has the members of the example, with
// values of the same kinds, at every depth. An error must also have the example's
// values, except for request_id.
func SameMembers(tb testing.TB, example string, body []byte) {
	tb.Helper()
	golden, err := api.Example(example)
	if err != nil {
		tb.Fatal(err)
	}
	var want, got any
	if err := json.Unmarshal(golden, &want); err != nil {
		tb.Fatalf("the example %s: %v", example, err)
	}
	if err := json.Unmarshal(body, &got); err != nil {
		tb.Fatalf("the answer is not JSON: %v: %s", err, body)
	}
	exact := strings.HasPrefix(example, "error-") || strings.HasPrefix(example, "problem-")
	if d := cmp.Diff(shape(want, exact, ""), shape(got, exact, "")); d != "" {
		tb.Errorf("the answer differs from the example %s (-example +answer):\n%s", example, d)
	}
}

// shape replaces the values that may differ by their kinds. It replaces the elements
// of an array by their distinct shapes.
func shape(v any, exact bool, member string) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for name, value := range v {
			out[name] = shape(value, exact, name)
		}
		return out
	case []any:
		var kinds []any
		for _, element := range v {
			s := shape(element, exact, member)
			if !slices.ContainsFunc(kinds, func(k any) bool { return cmp.Equal(k, s) }) {
				kinds = append(kinds, s)
			}
		}
		return kinds
	case nil:
		return nil
	}
	if exact && member != "request_id" {
		return v
	}
	switch v.(type) {
	case string:
		return "a string"
	case bool:
		return "a boolean"
	}
	return "a number"
}
