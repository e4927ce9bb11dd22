package auth

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is text that must never be shown: an AppSecret, a session_key, a
// token. Formatting, logging and JSON encoding print a placeholder; [Secret.Reveal]
// is the one way to read it, so that a search for it finds every use.
type Secret string

const redacted = "[redacted]"

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// Format implements fmt.Formatter with a placeholder for every verb: fmt would
// otherwise show the text where a verb does not fit, as in %d. (It does so for %p
// all the same, which go vet refuses.)
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String implements fmt.Stringer with a placeholder.
func (Secret) String() string { return redacted }

// LogValue implements slog.LogValuer with a placeholder.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler with a placeholder.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
