package setting

import "fmt"

// Error is a setting that is missing or wrong.
type Error struct {
	// Setting is its variable, or its flag when it has no variable.
	Setting string
	// Problem goes on from the name: "must be between 0 and 1000, got 2000".
	Problem error
}

// Errorf returns an error of a setting. The format goes on from the setting's name.
func Errorf(setting, format string, args ...any) error {
	return &Error{setting, fmt.Errorf(format, args...)}
}

func (e *Error) Error() string { return e.Setting + " " + e.Problem.Error() }

// Unwrap returns the problem.
func (e *Error) Unwrap() error { return e.Problem }

// Lines returns the text of an error, a line for each of those that were joined. A setting
// has the name by which the operator gave it: names maps a variable to a flag of the
// command line, see [FlagNames].
func Lines(err error, names map[string]string) []string {
	//nolint:errorlint // only what is on top has a name that can be replaced
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		var lines []string
		for _, err := range e.Unwrap() {
			lines = append(lines, Lines(err, names)...)
		}
		return lines
	case *Error:
		if name := names[e.Setting]; name != "" {
			return []string{(&Error{name, e.Problem}).Error()}
		}
	}
	return []string{err.Error()}
}
