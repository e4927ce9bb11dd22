package setting

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/uuid"
)

// bounds are the bounds of one flag, from its tags.
type bounds struct {
	min, max, unit, zero string
	duration, size       bool
}

// boundsOf returns the bounds of a flag, and whether it has any.
func boundsOf(f *kong.Value) (bounds, bool) {
	b := bounds{
		min: f.Tag.Get("min"), max: f.Tag.Get("max"), unit: f.Tag.Get("unit"), zero: f.Tag.Get("zero"),
		duration: f.Target.Type() == reflect.TypeFor[time.Duration](), size: f.Target.Type() == reflect.TypeFor[Size](),
	}
	return b, b.min != "" || b.max != ""
}

// CheckBounds returns an error for each flag of the command line whose value is outside its
// bounds.
func CheckBounds(line *kong.Context) error {
	var errs []error
	for _, f := range line.Flags() {
		if b, ok := boundsOf(f.Value); ok {
			errs = append(errs, b.check(variableOf(f), f.Target.Int()))
		}
	}
	return errors.Join(errs...)
}

// check returns an error if the value is out of bounds.
func (b bounds) check(name string, n int64) error {
	if b.zero != "" && n == 0 {
		return nil
	}
	minimum, maximum := n, n
	if b.min != "" {
		minimum = b.parse(b.min)
	}
	if b.max != "" {
		maximum = b.parse(b.max)
	}
	switch {
	case (n < minimum || n > maximum) && b.max != "":
		return Errorf(name, "must be between %s and %s, got %s", b.min, b.max, b.format(n))
	case n < minimum && b.zero != "":
		return Errorf(name, "must be 0 or at least %s, got %s", b.min, b.format(n))
	case n < minimum:
		return Errorf(name, "must be at least %s, got %s", b.min, b.format(n))
	case b.unit != "" && n%b.parse(b.unit) != 0:
		return Errorf(name, "must be a multiple of %s, got %s", b.unit, b.format(n))
	}
	return nil
}

// parse reads a bound. A tag that cannot be read is a defect of the program.
func (b bounds) parse(s string) int64 {
	if b.duration {
		d, err := time.ParseDuration(s)
		if err != nil {
			panic(err)
		}
		return int64(d)
	}
	if b.size {
		var n Size
		if err := n.UnmarshalText([]byte(s)); err != nil {
			panic(err)
		}
		return int64(n)
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func (b bounds) format(n int64) string {
	if b.duration {
		return Duration(time.Duration(n))
	}
	if b.size {
		return Size(n).String()
	}
	return strconv.FormatInt(n, 10)
}

// Decoders are options of a parser. They read the values of flags, and say plainly what a
// wrong value should have been.
func Decoders() []kong.Option {
	return []kong.Option{
		decoder("a duration such as 90s, 15m or 720h", time.ParseDuration),
		decoder("a time such as 2026-01-31T08:00:00+08:00", func(s string) (time.Time, error) { return time.Parse(time.RFC3339, s) }),
		decoder("an id such as 01936e2a-7b1c-7d3e-8f40-5a6b7c8d9e0f", func(s string) (*uuid.UUID, error) {
			id, err := uuid.Parse(s)
			return &id, err
		}),
	}
}

// decoder returns the option for flags of a type.
func decoder[T any](what string, parse func(string) (T, error)) kong.Option {
	return kong.TypeMapper(reflect.TypeFor[T](), kong.MapperFunc(func(ctx *kong.DecodeContext, target reflect.Value) error {
		var text string
		if err := ctx.Scan.PopValueInto("value", &text); err != nil {
			return err
		}
		v, err := parse(text)
		if err != nil {
			return fmt.Errorf("must be %s, got %q", what, text)
		}
		target.Set(reflect.ValueOf(v))
		return nil
	}))
}

// Duration formats a duration as operators write it: 5m, not 5m0s.
func Duration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Help returns the help of a flag or an argument: its sentences, its bounds, and its variable
// and default in brackets.
func Help(v *kong.Value) string {
	help := v.Help
	if b, ok := boundsOf(v); ok {
		help = fmt.Sprintf("%s (%s).", strings.TrimSuffix(help, "."), b)
	}
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
		return help
	}
	return help + " [" + strings.Join(notes, ", ") + "]"
}

// String returns the bounds as the help shows them.
func (b bounds) String() string {
	switch {
	case b.max != "":
		return b.min + " to " + b.max
	case b.zero != "":
		return "0 or at least " + b.min
	default:
		return "at least " + b.min
	}
}

// variableOf returns the name of a setting: its variable, or else its flag.
func variableOf(f *kong.Flag) string {
	if len(f.Envs) > 0 {
		return f.Envs[0]
	}
	return "--" + f.Name
}

// Variables returns the environment variables of all commands.
func Variables(app *kong.Application) []string {
	var known []string
	var visit func(n *kong.Node)
	visit = func(n *kong.Node) {
		for _, f := range n.Flags {
			known = append(known, f.Envs...)
		}
		for _, child := range n.Children {
			visit(child)
		}
	}
	visit(app.Node)
	return known
}

// FlagNames returns the flags on the command line, by their variables.
func FlagNames(line *kong.Context) map[string]string {
	names := map[string]string{}
	for _, p := range line.Path {
		if p.Flag != nil && !p.Resolved {
			names[variableOf(p.Flag)] = "--" + p.Flag.Name
		}
	}
	return names
}
