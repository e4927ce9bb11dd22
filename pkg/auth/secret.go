package auth

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is text that must never be shown: an AppSecret, a session_key, a
// token. Formatting, logging and JSON encoding print a placeholder. Only
// [Secret.Reveal] returns the text, so a search for it finds every use.
type Secret string

const redacted = "[redacted]"

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// Format implements fmt.Formatter with a placeholder for every verb. Otherwise fmt would
// show the text for a verb that does not fit, such as %d. (It still does so for %p,
// which go vet refuses.)
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String implements fmt.Stringer with a placeholder.
func (Secret) String() string { return redacted }

// LogValue implements slog.LogValuer with a placeholder.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler with a placeholder.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
