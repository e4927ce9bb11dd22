// Package telemetry owns how the service speaks to its operators: the slog
// handler, which keeps secrets out of the log, and the metrics registry.
//
// It does not own what is logged or counted: callers say that. Labels are
// bounded sets (route patterns, error codes), never an identifier.
//
// Redaction is the second line of defence. The first is auth.Secret, which
// prints a placeholder wherever it is formatted; here, text that looks like one
// of our tokens or like a secret in a URL is blanked whatever put it there.
package telemetry
