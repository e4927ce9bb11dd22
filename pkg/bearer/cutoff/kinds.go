package cutoff

import "strings"

// Bounds of the list of kinds in a query.
const (
	maxKinds    = 16
	maxKindName = 32
)

// QueryKinds is the name of the query parameter with which a validator names the kinds
// of cutoffs that it knows, separated by commas.
const QueryKinds = "kinds"

// Query returns the value of [QueryKinds] for the kinds that this package knows.
func Query() string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = string(k)
	}
	return strings.Join(names, ",")
}

// ParseKinds returns the kinds beyond the base kinds that a value of [QueryKinds] names.
// It never fails, so that no validator is refused for what it names: what cannot be a
// name is skipped, and of a long list the first 16 names count.
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
