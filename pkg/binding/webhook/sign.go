package webhook

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// The form of a secret (Standard Webhooks, "Signature scheme").
const (
	secretPrefix = "whsec_"
	minKey       = 24
	maxKey       = 64
	newKey       = 32
)

// Key signs requests with HMAC-SHA-256. The zero value signs nothing.
type Key struct{ key []byte }

// ParseKey parses a secret: whsec_ and the base64 of 24 to 64 random bytes. Errors
// are [auth.InvalidRequest] and hold no part of it.
func ParseKey(secret auth.Secret) (Key, error) {
	encoded, ok := strings.CutPrefix(secret.Reveal(), secretPrefix)
	if !ok || len(encoded) > base64.StdEncoding.EncodedLen(maxKey) {
		return Key{}, errSecret
	}
	key, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || len(key) < minKey || len(key) > maxKey || strings.ContainsAny(encoded, "\r\n") {
		return Key{}, errSecret
	}
	return Key{key}, nil
}

// ParseKeys parses the secrets of a webhook, 1 to [MaxKeys], one per line. Blank lines are
// ignored. Errors are those of [ParseKey].
func ParseKeys(secrets auth.Secret) ([]Key, error) {
	var keys []Key
	for line := range strings.Lines(secrets.Reveal()) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		k, err := ParseKey(auth.Secret(line))
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 || len(keys) > MaxKeys {
		return nil, auth.Invalid("there must be 1 to 4 webhook secrets, one a line")
	}
	return keys, nil
}

var errSecret = auth.Invalid("a webhook secret must be whsec_ and the base64 of 24 to 64 random bytes")

// NewSecret returns a new secret of 256 bits, for [ParseKey].
func NewSecret() auth.Secret {
	key := make([]byte, newKey)
	_, _ = rand.Read(key) // never fails: crypto/rand aborts the program instead
	return auth.Secret(secretPrefix + base64.StdEncoding.EncodeToString(key))
}

// Format implements fmt.Formatter with a placeholder for every verb.
func (Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[redacted]") }

// LogValue implements slog.LogValuer with a placeholder.
func (Key) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// MarshalText implements encoding.TextMarshaler with a placeholder.
func (Key) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// signature returns the header webhook-signature of a request: the signatures of
// all keys, separated by spaces.
func signature(id string, at time.Time, body []byte, keys []Key) string {
	signatures := make([]string, 0, len(keys))
	for _, k := range keys {
		mac := hmac.New(sha256.New, k.key)
		mac.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "."))
		mac.Write(body)
		signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(signatures, " ")
}
