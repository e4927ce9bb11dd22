package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strings"
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
		}
	}
	return a
}

var (
	// ours are our tokens, and any JWT.
	ours = regexp.MustCompile(`\byf[rk]_[A-Za-z0-9_-]+|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`)
	// named are the values of parameters that hold secrets, in a query string,
	// a form or JSON.
	named = regexp.MustCompile(`(?i)\b(secret|js_code|code|access_token|refresh_token|token|session_key|client_secret|password)(=|"\s*:\s*")([^&\s"]+)`)
	// userinfo is the password in a URL, such as a database's. A password that
	// was not percent-encoded ends at the last @, and may hold slashes.
	userinfo = regexp.MustCompile(`(?i)([a-z][a-z0-9+.-]*://[^\s/:@]*):[^\s"]+@`)
)

// Redact returns s with everything blanked that looks like a token, a secret
// parameter or a password in a URL.
func Redact(s string) string {
	if strings.Contains(s, "yf") || strings.Contains(s, "eyJ") {
		s = ours.ReplaceAllString(s, "[redacted]")
	}
	if strings.ContainsAny(s, "=:") {
		s = named.ReplaceAllString(s, "$1$2[redacted]")
		s = userinfo.ReplaceAllString(s, "$1:[redacted]@")
	}
	return s
}
