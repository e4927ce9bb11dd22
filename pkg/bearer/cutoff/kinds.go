package cutoff

import "strings"

// Bounds of the list of kinds in a query.
const (
	maxKinds    = 16
	maxKindName = 32
)

// QueryKinds is the query parameter by which a validator names the kinds of cutoffs that
// it knows, separated by commas.
const QueryKinds = "kinds"

// Query returns the value of [QueryKinds] for the kinds that this package knows.
func Query() string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = string(k)
	}
	return strings.Join(names, ",")
}

// ParseKinds returns the kinds in a value of [QueryKinds], without the base kinds. It
// never fails, so that no validator is refused because of a name: it skips what cannot be
// a name, and reads the first 16 names only.
func ParseKinds(query string) []Kind {
	var named []Kind
	for range maxKinds {
		name, rest, more := strings.Cut(query, ",")
		if k := Kind(name); isKindName(name) && !k.Base() {
			named = append(named, k)
		}
		if !more {
			break
		}
		query = rest
	}
	return named
}

func isKindName(s string) bool {
	if s == "" || len(s) > maxKindName {
		return false
	}
	for i := range len(s) {
		if (s[i] < 'a' || s[i] > 'z') && s[i] != '_' {
			return false
		}
	}
	return true
}
