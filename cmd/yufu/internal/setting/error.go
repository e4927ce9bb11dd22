package setting

import "fmt"

// Error is a setting that is missing or wrong.
type Error struct {
	// Setting is the name of the variable, or of the flag if there is no variable.
	Setting string
	// Problem continues the sentence after the name: "must be between 0 and 1000, got 2000".
	Problem error
}

// Errorf returns an error of a setting. The format continues the sentence after the name.
func Errorf(setting, format string, args ...any) error {
	return &Error{setting, fmt.Errorf(format, args...)}
}

func (e *Error) Error() string { return e.Setting + " " + e.Problem.Error() }

// Unwrap returns the problem.
func (e *Error) Unwrap() error { return e.Problem }

// Lines returns the text of an error, with a line for each joined error. It calls a setting
// by the name that the operator used: names maps a variable to a flag of the command line,
// see [FlagNames].
func Lines(err error, names map[string]string) []string {
	//nolint:errorlint // only the outermost error has a name that can be replaced
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
