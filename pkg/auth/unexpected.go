package auth

import (
	"slices"
	"strings"
)

// maxQuotedName is the longest name that an error text repeats. Tokens, keys
// and secrets of platforms are longer.
const maxQuotedName = 24

// QuotedName returns the name of a parameter or a member with a space before it,
// or "" when it does not look like a name: error texts repeat no other input.
func QuotedName(name string) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	if name == "" || len(name) > maxQuotedName || !strings.Contains(letters, name[:1]) || strings.Trim(name, letters+"0123456789_-") != "" {
		return ""
	}
	return " " + name
}

// Unexpected returns the [InvalidRequest] error of a part (as in "query") that
// has a thing (as in "parameter") of a name that it does not take; known are the
// names that it does.
func Unexpected(part, thing, name string, known []string) error {
	text := "The " + part + " has the " + thing + QuotedName(name) + ", which does not belong there."
	if QuotedName(name) == "" {
		text = "The " + part + " has a " + thing + " that does not belong there."
	}
	if known = slices.Sorted(slices.Values(known)); len(known) > 0 {
		text += " It takes " + strings.Join(known, ", ") + "."
	} else {
		text += " It takes none."
	}
	return Invalid(text)
}
