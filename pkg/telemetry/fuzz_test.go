package telemetry

import (
	"strings"
	"testing"
)

// planted are texts with secrets, and the secrets that must be blanked.
var planted = []struct{ text, secret string }{
	{"yfr_AQECAwQBkAAAAAB8AIAAAAAAAAABAAAAAcLULxpThw97YfEAs-wi8j0rubQ_", "AQECAwQBkAAAAAB8AIAAAAAAAAABAAAAAcLULxpThw97YfEAs-wi8j0rubQ_"},
	{"yfk_ab12_ZmFrZSBzZXJ2aWNlIGtleQ", "ZmFrZSBzZXJ2aWNlIGtleQ"},
	{"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJ4In0.c2lnbmF0dXJl", "eyJpc3MiOiJ4In0"},
	{"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJ4In0.c2lnbmF0dXJl", "c2lnbmF0dXJl"},
	{"secret=hunter2", "hunter2"},
	{"appsecret=hunter2", "hunter2"},
	{"js_code=hunter2", "hunter2"},
	{"&code=hunter2", "hunter2"},
	{"refresh_token=hunter2", "hunter2"},
	{"client_secret=hunter2", "hunter2"},
	{"PASSWORD=hunter2", "hunter2"},
	{`password="hunter2"`, "hunter2"},
	{"secret%3Dhunter2", "hunter2"},
	{`"session_key":"hunter2"`, "hunter2"},
	{`"session_key" : "hunter2"`, "hunter2"},
	{`\"session_key\":\"hunter2\"`, "hunter2"},
	{"postgres://yufu:hunter2@db", "hunter2"},
}

// surroundings are texts around a secret that could hide it from a pattern which matches
// too much.
var surroundings = [][2]string{
	{"", ""},
	{"x", "x"},
	{"_", "_"},
	{"yfr_", "="},
	{"eyJ.eyJaaaaaaaa.", "."},
	{`{\"a\":\"b\",`, `}`},
	{"next=https%3A%2F%2Fx%3F", "%26y%3D1"},
	{"secret=", "&"},
	{`secret="`, `"`},
	{`Get "https://api.weixin.qq.com/sns/jscode2session?appid=wx1&`, `&grant_type=authorization_code": EOF`},
	{"a://b:", "@c"},
	{"a://b:c@d ", "\n"},
	{"\xff", "\xff"},
}

// FuzzRedact checks that a secret is blanked in any surroundings.
func FuzzRedact(f *testing.F) {
	for _, around := range surroundings {
		for i := range planted {
			f.Add(around[0], around[1], uint8(i))
		}
	}
	f.Fuzz(func(t *testing.T, before, after string, which uint8) {
		p := planted[int(which)%len(planted)]
		if strings.Contains(before, p.secret) || strings.Contains(after, p.secret) {
			return
		}
		if got := Redact(before + p.text + after); strings.Contains(got, p.secret) {
			t.Fatalf("Redact(%q) = %q", before+p.text+after, got)
		}
	})
}

func TestRedactKeeps(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"wechat: errcode 40029: invalid code, rid: 6683f2a1-0f0f-11112222",
		"errcode=40029 error_code=code_invalid",
		`{"error_code":"token_expired"}`,
		"YUFU_ACCESS_TOKEN_TTL: an access token lives 1s to 1h0m0s, not 2h0m0s",
		"oauth: the token: not one",
		"listening on 127.0.0.1:8080",
		"2026-07-01T12:00:00Z",
	} {
		if got := Redact(s); got != s {
			t.Errorf("Redact(%q) = %q, want no change", s, got)
		}
	}
}
