package auth

import (
	"slices"
	"strings"
)

// maxQuotedName is the longest name that an error text repeats, in bytes. Tokens,
// keys and secrets of platforms are longer.
const maxQuotedName = 24

// Named returns the subject of a sentence about a parameter or a member: "The
// parameter page", or "A parameter" when the name does not look like a name. Error
// texts repeat no other input.
func Named(thing, name string) string {
	if !isName(name) {
		return "A " + thing
	}
	return "The " + thing + " " + name
}

// isName reports whether an error text may repeat s: a letter first, then letters,
// digits, underscores and dashes, at most [maxQuotedName] bytes.
func isName(s string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	return s != "" && len(s) <= maxQuotedName && strings.Contains(letters, s[:1]) && strings.Trim(s, letters+"0123456789_-") == ""
}

// Unexpected returns the [InvalidRequest] error for a part (as in "query") that
// has an unknown thing (as in "parameter"). The error lists the known names, and
// repeats the unknown one if it looks like a name.
func Unexpected(part, thing, name string, known []string) error {
	text := "The " + part + " has an unknown " + thing
	if isName(name) {
		text += " " + name
	}
	if known = slices.Sorted(slices.Values(known)); len(known) > 0 {
		text += ". Allowed " + thing + "s: " + strings.Join(known, ", ") + "."
	} else {
		text += ". No " + thing + " is allowed."
	}
	return Invalid(text)
}
