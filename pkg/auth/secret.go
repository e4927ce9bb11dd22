package auth

import "log/slog"

// Secret is text that must never be shown: an AppSecret, a session_key, a
// token. Formatting, logging and JSON encoding print a placeholder; [Secret.Reveal]
// is the one way to read it, so that a search for it finds every use.
type Secret string

const redacted = "[redacted]"

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String implements fmt.Stringer with a placeholder.
func (Secret) String() string { return redacted }

// GoString implements fmt.GoStringer with a placeholder, for %#v.
func (Secret) GoString() string { return redacted }

// LogValue implements slog.LogValuer with a placeholder.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler with a placeholder.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
