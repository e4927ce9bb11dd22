package auth_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// FuzzCleanDevice checks that a label is either cleaned completely, or refused without
// being quoted.
func FuzzCleanDevice(f *testing.F) {
	f.Fuzz(func(t *testing.T, in string) {
		got, err := auth.CleanDevice(in)
		if err != nil {
			if got != "" || !errors.Is(err, auth.InvalidRequest) {
				t.Fatalf("CleanDevice(%q) = %q, %v", in, got, err)
			}
			if len(in) > 40 && strings.Contains(err.Error(), in) {
				t.Fatalf("the error quotes %q", in)
			}
			return
		}
		if !utf8.ValidString(got) || utf8.RuneCountInString(got) > auth.MaxDeviceLen || strings.ContainsAny(got, "\x00\r\n\x1b\u202e") {
			t.Fatalf("CleanDevice(%q) = %q", in, got)
		}
		if !strings.Contains(in, got) {
			t.Fatalf("CleanDevice(%q) = %q, which is another text", in, got)
		}
		if again, err := auth.CleanDevice(got); err != nil || again != got {
			t.Fatalf("CleanDevice(%q) = %q, and once more %q, %v", in, got, again, err)
		}
	})
}
