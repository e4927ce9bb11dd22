// Package telemetry owns the output for operators: the slog handler, which keeps
// secrets out of the log, and the metrics registry.
//
// It does not own the events that are logged or counted; callers decide that. Labels
// have bounded sets of values (route patterns, error codes), never identifiers.
//
// Redaction is the second line of defence. The first is auth.Secret, which formats as
// a placeholder. This package also blanks any text that looks like one of our tokens or
// like a secret in a URL.
//
// A failure to write the log is ignored: it does not fail the request.
package telemetry
