package telemetry

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
)

// NewLogger returns a logger that writes to w in the format "json" or "text",
// from the level on ("debug", "info", "warn", "error").
func NewLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var min slog.Level
	if err := min.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q: it is debug, info, warn or error", level)
	}
	opts := &slog.HandlerOptions{Level: min, ReplaceAttr: redactAttr}
	switch format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	}
	return nil, fmt.Errorf("log format %q: it is json or text", format)
}

// redactAttr blanks what looks like a secret in any text that is logged.
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
			// As JSON, which leaves unexported fields alone.
			text, err := json.Marshal(x)
			if err != nil {
				text = fmt.Appendf(nil, "[%T]", x)
			}
			a.Value = slog.StringValue(Redact(string(text)))
		}
	}
	return a
}
