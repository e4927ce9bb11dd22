package main

import (
	"reflect"
	"strings"

	"github.com/alecthomas/kong"
)

// helpText is what the help says of a flag: its sentence, and behind it, in one
// form for all, its environment variable and its default.
func helpText(v *kong.Value) string {
	var notes []string
	for _, env := range v.Tag.Envs {
		notes = append(notes, "$"+env)
	}
	switch {
	case v.HasDefault && v.Target.Kind() != reflect.Bool:
		notes = append(notes, "default "+v.Default)
	case v.Required && v.Flag != nil && len(v.Flag.Xor) > 0:
		notes = append(notes, "one of these is required")
	case v.Required && v.Flag != nil:
		notes = append(notes, "required")
	}
	if len(notes) == 0 {
		return v.Help
	}
	return v.Help + " [" + strings.Join(notes, ", ") + "]"
}
