package webhook

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
)

func mustKey(t *testing.T, secret auth.Secret) Key {
	t.Helper()
	k, err := ParseKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestSignature checks the vector that the reference implementations of Standard
// Webhooks share, and one that was made with openssl:
//
//	printf '%s' 'msg_1.1700000000.{}' | openssl dgst -sha256 -mac hmac -macopt hexkey:$(printf '6b%.0s' $(seq 32)) -binary | base64
func TestSignature(t *testing.T) {
	t.Parallel()
	reference := mustKey(t, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	const want = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	at, body := time.Unix(1614265330, 999_000_000), []byte(`{"test": 2432232314}`)
	if got := signature("msg_p5jXN8AQM9LWM0D4loKWxJek", at, body, []Key{reference}); got != want {
		t.Errorf("signature() = %s, want %s", got, want)
	}
	own := mustKey(t, auth.Secret("whsec_"+base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))))
	if got := signature("msg_1", time.Unix(1700000000, 0), []byte(`{}`), []Key{own}); got != "v1,3sOcjp9LSFloZNG4djSBtbk6gHDplP0wungD5l+W7DU=" {
		t.Errorf("signature() = %s, want the vector of openssl", got)
	}
	both := signature("msg_p5jXN8AQM9LWM0D4loKWxJek", at, body, []Key{own, reference})
	if parts := strings.Split(both, " "); len(parts) != 2 || parts[1] != want || parts[0] == want {
		t.Errorf("signature() with two keys = %q", both)
	}
}

func TestParseKey(t *testing.T) {
	t.Parallel()
	encode := base64.StdEncoding.EncodeToString
	for name, bad := range map[string]string{
		"nothing":           "",
		"the prefix alone":  "whsec_",
		"no prefix":         encode(make([]byte, 32)),
		"another prefix":    "whpk_" + encode(make([]byte, 32)),
		"23 bytes":          "whsec_" + encode(make([]byte, 23)),
		"65 bytes":          "whsec_" + encode(make([]byte, 65)),
		"no base64":         "whsec_" + strings.Repeat("*", 44),
		"base64 of URLs":    "whsec_" + strings.Repeat("-_", 16),
		"a line break":      "whsec_" + encode(make([]byte, 24))[:16] + "\n" + encode(make([]byte, 24))[16:],
		"bits at the end":   "whsec_" + strings.Repeat("A", 33) + "B==",
		"white space":       " whsec_" + encode(make([]byte, 32)),
		"something endless": "whsec_" + strings.Repeat("A", 1<<20),
	} {
		if _, err := ParseKey(auth.Secret(bad)); auth.CodeOf(err) != auth.InvalidRequest {
			t.Errorf("%s: error = %v, want %v", name, err, auth.InvalidRequest)
		}
	}
	for _, n := range []int{24, 32, 64} {
		if _, err := ParseKey(auth.Secret("whsec_" + encode(make([]byte, n)))); err != nil {
			t.Errorf("ParseKey() of %d bytes: error = %v", n, err)
		}
	}
}

func TestNewSecret(t *testing.T) {
	t.Parallel()
	a, b := NewSecret(), NewSecret()
	if a == b {
		t.Error("NewSecret() returned the same secret twice")
	}
	if k := mustKey(t, a); len(k.key) != 32 {
		t.Errorf("the key has %d bytes, want 32", len(k.key))
	}
}

func TestKeysAreNotShown(t *testing.T) {
	t.Parallel()
	k := Key{[]byte(strings.Repeat("k", 32))}
	endpoint := Endpoint{URL: "https://x.example", Keys: []Key{k}}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "key", k, "endpoint", endpoint)
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "key", k, "endpoint", endpoint)
	shown := fmt.Sprintf("%v %+v %#v %s %x %d %v %+v %#v", k, k, k, k, k, k, endpoint, endpoint, endpoint) + log.String()
	for _, needle := range []string{"kkkk", "6b6b", "107 107", "107,107", "0x6b, 0x6b", base64.StdEncoding.EncodeToString(k.key)} {
		if strings.Contains(shown, needle) {
			t.Errorf("the output shows %q: %s", needle, shown)
		}
	}
}
