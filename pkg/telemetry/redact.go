package telemetry

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// blank is what stands where a secret was.
const blank = "[redacted]"

// What a secret is known by. Each pattern ends where the secret begins or, for
// tokens, is all of it; how far the secret goes is decided from there, for each
// place alone, so that no text around a secret can hide it.
var (
	// tokens are ours, and any JWT.
	tokens = regexp.MustCompile(`(?:yf[rk]_|eyJ[A-Za-z0-9_-]{8,}\.)[A-Za-z0-9_.-]+`)
	// named are the names of parameters that hold secrets, in a query string, a
	// form or JSON, escaped once more or not. A code is one only under its own
	// name: an error_code is none.
	named = regexp.MustCompile(`(?i)(?:secret|token|password|session_key|js_code|(?:^|[^a-z_]|%[0-9a-f]{2})code)` +
		`(?:\\*"\s*:\s*\\*"|(?:=|%3D)(?:\\*")?)`)
	// userinfo is the user in a URL, such as a database's, before a password.
	userinfo = regexp.MustCompile(`(?i)[a-z][a-z0-9+.-]*://[^\s/:@]*:`)
)

// span is a part of a text.
type span struct{ from, to int }

// Redact returns s with everything blanked that looks like a token, a secret
// parameter or a password in a URL.
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
			// A password that was not percent-encoded ends at the last @, and
			// may hold slashes.
			secrets = append(secrets, span{m[1], max(m[1], url.of(m[1]))})
		}
	}
	return blanked(s, secrets)
}

// endFinder finds where secrets end: at the first of some characters or, with lastOf,
// at the last such character before them. It is asked from left to right, and
// looks at no part of a text twice.
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
