package auth_test

import (
	"testing"

	"github.com/yufu-auth/yufu/pkg/auth"
)

func TestValidPhone(t *testing.T) {
	t.Parallel()
	for number, want := range map[string]bool{
		"+8613800001002":    true,
		"+85261234567":      true,
		"+2901234":          true, // Saint Helena: the shortest
		"+123456789012345":  true,
		"":                  false,
		"+":                 false,
		"13800001002":       false,
		"8613800001002":     false,
		"+0613800001002":    false,
		"+86 13800001002":   false,
		"+86-13800001002":   false,
		"+861380000100２":    false,
		"+123456":           false,
		"+1234567890123456": false,
		"+8613800001002\n":  false,
		"++8613800001002":   false,
	} {
		if got := auth.ValidPhone(number); got != want {
			t.Errorf("ValidPhone(%q) = %t, want %t", number, got, !got)
		}
	}
}
