package telemetry

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// blank replaces a secret.
const blank = "[redacted]"

// The patterns of secrets. A pattern ends where the secret begins; tokens matches the
// whole secret. The end of the secret is found separately for each match, so that no
// text around a secret can hide it.
var (
	// tokens matches our tokens, and any JWT.
	tokens = regexp.MustCompile(`(?:yf[rk]_|eyJ[A-Za-z0-9_-]{8,}\.)[A-Za-z0-9_.-]+`)
	// named matches the names of parameters that hold secrets, in a query string, a
	// form or JSON, perhaps escaped once more. It matches code, but not error_code.
	named = regexp.MustCompile(`(?i)(?:secret|token|password|session_key|js_code|(?:^|[^a-z_]|%[0-9a-f]{2})code)` +
		`(?:\\*"\s*:\s*\\*"|(?:=|%3D)(?:\\*")?)`)
	// userinfo matches the user before the password in a URL, such as a database's.
	userinfo = regexp.MustCompile(`(?i)[a-z][a-z0-9+.-]*://[^\s/:@]*:`)
)

// span is a part of a text.
type span struct{ from, to int }

// Redact returns s with all text blanked that looks like a token, a secret parameter or
// a password in a URL.
func Redact(s string) string {
	var secrets []span
	if strings.Contains(s, "yf") || strings.Contains(s, "eyJ") {
		for _, m := range tokens.FindAllStringIndex(s, -1) {
			secrets = append(secrets, span{m[0], m[1]})
		}
	}
	if strings.ContainsAny(s, "=:%") {
		bare, quoted, url := endFinder{s: s, chars: "& \t\r\n\""}, endFinder{s: s, chars: `"`}, endFinder{s: s, chars: " \t\r\n\"", lastOf: '@'}
		for _, m := range named.FindAllStringIndex(s, -1) {
			end := &bare
			if s[m[1]-1] == '"' {
				end = &quoted
			}
			secrets = append(secrets, span{m[1], end.of(m[1])})
		}
		for _, m := range userinfo.FindAllStringIndex(s, -1) {
			// A password that is not percent-encoded may have slashes; it ends at the
			// last @.
			secrets = append(secrets, span{m[1], max(m[1], url.of(m[1]))})
		}
	}
	return blanked(s, secrets)
}

// endFinder finds the end of a secret: the first of chars or, with lastOf, the last
// lastOf before it. Calls must go from left to right; no part of the text is scanned
// twice.
type endFinder struct {
	s, chars       string
	lastOf         byte
	scanned, found int
}

func (e *endFinder) of(from int) int {
	if from < e.scanned {
		return e.found
	}
	e.scanned = len(e.s)
	if i := strings.IndexAny(e.s[from:], e.chars); i >= 0 {
		e.scanned = from + i
	}
	e.found = e.scanned
	if e.lastOf != 0 {
		e.found = from + strings.LastIndexByte(e.s[from:e.scanned], e.lastOf)
	}
	return e.found
}

// blanked returns s without the spans, which may overlap.
func blanked(s string, spans []span) string {
	spans = slices.DeleteFunc(spans, func(p span) bool { return p.from == p.to })
	if len(spans) == 0 {
		return s
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var out strings.Builder
	at := 0
	for _, p := range spans {
		if p.from >= at {
			out.WriteString(s[at:p.from])
			out.WriteString(blank)
		}
		at = max(at, p.to)
	}
	out.WriteString(s[at:])
	return out.String()
}
