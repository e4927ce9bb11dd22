package servicekey

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// Bounds of what stands in a key.
const (
	// MaxNameLen is how long a name may be, in characters.
	MaxNameLen = 64
	// MaxApps is how many apps a key may be restricted to.
	MaxApps = 64
)

// Scopes lists the scopes there are, in the order in which keys have them.
func Scopes() []Scope {
	return []Scope{ScopeService, ScopeOpenID, ScopeDecrypt, ScopeRead, ScopeAdmin}
}

// Draft is what a key is to be. [NewDraft] makes one.
type Draft struct {
	Name   string
	Scopes []Scope
	Apps   []string
}

// NewDraft checks what a new key is to be, and brings it into the one form that
// keys have: scopes in order, apps sorted, each once. Whether the apps are
// registered is for the caller to see.
//
// Errors: [auth.InvalidRequest] for a name that is empty, too long or not text,
// for no scope or an unknown one, and for what is no appid.
func NewDraft(name string, scopes, apps []string) (Draft, error) {
	name = strings.TrimSpace(name)
	switch {
	case name == "" || utf8.RuneCountInString(name) > MaxNameLen:
		return Draft{}, auth.Invalid("name has 1 to 64 characters")
	case !auth.CleanText(name):
		return Draft{}, auth.Invalid("name is UTF-8 text without control characters")
	case len(scopes) == 0:
		return Draft{}, auth.Invalid("scope is one or more of: service, openid, decrypt, read, admin")
	case len(apps) > MaxApps:
		return Draft{}, auth.Invalid("a service key is restricted to at most 64 apps")
	}
	d := Draft{Name: name}
	for _, s := range scopes {
		if !slices.Contains(Scopes(), Scope(s)) {
			return Draft{}, auth.Invalid("scope is one or more of: service, openid, decrypt, read, admin")
		}
	}
	for _, s := range Scopes() {
		if slices.Contains(scopes, string(s)) {
			d.Scopes = append(d.Scopes, s)
		}
	}
	for _, app := range apps {
		if !auth.ValidAppID(app) {
			return Draft{}, auth.Invalid("apps are appids: 1 to 64 letters and digits each")
		}
		d.Apps = append(d.Apps, app)
	}
	slices.Sort(d.Apps)
	d.Apps = slices.Compact(d.Apps)
	return d, nil
}

// includes says which scopes stand for others beside themselves.
var includes = map[Scope][]Scope{
	ScopeAdmin: {ScopeRead},
}

// Has reports whether the key has the scope, by itself or in another of its
// scopes: admin includes read. Nothing else is included: a key that can end
// every session need not see an openid.
func (k *Key) Has(s Scope) bool {
	return slices.Contains(k.Scopes, s) || slices.ContainsFunc(k.Scopes, func(has Scope) bool {
		return slices.Contains(includes[has], s)
	})
}

// Restricted reports whether the key is good for some apps only.
func (k *Key) Restricted() bool { return len(k.Apps) > 0 }

// ScopeText returns scopes as OAuth writes them: separated by spaces.
func ScopeText(scopes []Scope) string {
	words := make([]string, len(scopes))
	for i, s := range scopes {
		words[i] = string(s)
	}
	return strings.Join(words, " ")
}
