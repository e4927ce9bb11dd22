package telemetry_test

import (
	"strings"
	"testing"

	"github.com/yufu-auth/yufu/pkg/telemetry"
)

func TestRedactBlanksPasswordsInURLs(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"postgres://yufu:hunter2@db.example.com/yufu",
		"POSTGRES://yufu:hunter2@db.example.com/yufu",
		"postgres://:hunter2@db.example.com/yufu",
		"postgres://yufu:xy/hunter2@db.example.com/yufu",
		"postgres://yufu:xy@hunter2@db.example.com/yufu",
		"postgres://yufu:xy:hunter2#@db.example.com/yufu",
		`"postgres://yufu:hunter2@db.example.com/yufu": what is that`,
	} {
		if got := telemetry.Redact(s); strings.Contains(got, "hunter2") || !strings.Contains(got, "db.example.com/yufu") {
			t.Errorf("Redact(%s) = %s, want the host and database without the password", s, got)
		}
	}
	for _, s := range []string{
		"listening on http://127.0.0.1:8080 for alice@example.com",
		"https://auth.example.com/oauth2/token",
		`"http://127.0.0.1:8080" is not "alice@example.com"`,
	} {
		if got := telemetry.Redact(s); got != s {
			t.Errorf("Redact(%s) = %s, want no change", s, got)
		}
	}
}
