package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"
	"unicode/utf8"

	"github.com/yufu-auth/yufu/cmd/yufu/internal/setting"
	"github.com/yufu-auth/yufu/pkg/auth"
)

// streams are the program's standard streams, bound for every command.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// usageError is a missing or wrong setting. The exit code is 2.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// wrongUsage marks an error that the operator can correct. It returns nil for nil.
func wrongUsage(err error) error {
	if err == nil {
		return nil
	}
	return &usageError{err}
}

// warnTo returns a function that logs a warning.
func warnTo(log *slog.Logger) func(string) { return func(s string) { log.Warn(s) } }

// noteTo returns a function that prints a note beside the result of a command.
func noteTo(std streams) func(string) {
	return func(text string) { fmt.Fprintln(std.err, "yufu:", text) }
}

// formatTime formats a time for a list; a zero time is "-".
func formatTime(t time.Time) string { return formatTimeOr(t, "-") }

func formatTimeOr(t time.Time, zero string) string {
	if t.IsZero() {
		return zero
	}
	return t.UTC().Format(time.RFC3339)
}

// printJSON prints the result of a command as indented JSON.
func printJSON(std streams, result any) error {
	e := json.NewEncoder(std.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(result)
}

// reasonFlag is embedded by commands that write to the audit trail.
type reasonFlag struct {
	Reason string `help:"Reason, for the audit trail."`
}

// checkArgs implements [argsChecker].
func (f reasonFlag) checkArgs() error {
	switch {
	case utf8.RuneCountInString(f.Reason) > auth.MaxReasonLen:
		return fmt.Errorf("--reason must have at most %d characters", auth.MaxReasonLen)
	case !auth.CleanText(f.Reason):
		return errors.New("--reason must be text without control characters")
	}
	return nil
}

// descriptionOf turns the description of an [auth.Error], which is for clients, into an error
// for an operator, with the cause if there is one.
func descriptionOf(err error) error {
	var e *auth.Error
	if !errors.As(err, &e) || e.Description == "" {
		return err
	}
	if e.Err != nil {
		return fmt.Errorf("%s: %w", e.Description, e.Err)
	}
	return errors.New(e.Description)
}

// textLogger returns the log of a command other than serve. With an error it returns a log
// that discards everything.
func textLogger(s setting.Log, std streams) (*slog.Logger, error) {
	level, levelErr := s.Level()
	log, formatErr := s.Logger(std.err, "text", level)
	if err := errors.Join(levelErr, formatErr); err != nil {
		return slog.New(slog.DiscardHandler), err
	}
	return log, nil
}
