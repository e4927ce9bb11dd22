package telemetry

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
)

// ParseLevel returns the level of a name: "debug", "info", "warn" or "error".
func ParseLevel(name string) (level slog.Level, err error) {
	if err := level.UnmarshalText([]byte(name)); err != nil {
		return 0, fmt.Errorf("the log level must be debug, info, warn or error, got %q", name)
	}
	return level, nil
}

// NewLogger returns a logger that writes records of at least this level to w, in the
// format "json" or "text".
func NewLogger(w io.Writer, format string, level slog.Leveler) (*slog.Logger, error) {
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: redactAttr}
	switch format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	}
	return nil, fmt.Errorf("the log format must be json or text, got %q", format)
}

// redactAttr blanks text that looks like a secret in an attribute.
func redactAttr(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value.Resolve(); v.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(Redact(v.String()))
	case slog.KindAny:
		switch x := v.Any().(type) {
		case error:
			a.Value = slog.StringValue(Redact(x.Error()))
		case fmt.Stringer:
			a.Value = slog.StringValue(Redact(x.String()))
		case []byte:
			// Bytes in a log are a mistake, and may be a key.
			a.Value = slog.StringValue(fmt.Sprintf("[%d bytes]", len(x)))
		case nil:
		default:
			// JSON omits unexported fields.
			text, err := json.Marshal(x)
			if err != nil {
				text = fmt.Appendf(nil, "[%T]", x)
			}
			a.Value = slog.StringValue(Redact(string(text)))
		}
	}
	return a
}
