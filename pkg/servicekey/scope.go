package servicekey

import (
	"slices"
	"strings"
)

// Scope is a permission of a key.
type Scope string

// The scopes. [Table] says what each allows.
const (
	ScopeService Scope = "service"
	ScopeOpenID  Scope = "openid"
	ScopeDecrypt Scope = "decrypt"
	ScopeRead    Scope = "read"
	ScopeSupport Scope = "support"
	ScopePersons Scope = "persons"
	ScopeAudit   Scope = "audit"
	ScopeAdmin   Scope = "admin"
)

// ScopeRow is a row of [Table].
type ScopeRow struct {
	Scope Scope
	// Allows is for people.
	Allows string
	// Includes lists all other scopes that a key with the scope has.
	Includes []Scope
}

var table = []ScopeRow{
	{ScopeService, "ask about tokens, follow revocations", nil},
	{ScopeOpenID, "see openids, unionids and unmasked phones", nil},
	{ScopeDecrypt, "nothing yet; reserved for decrypting platform data", nil},
	{ScopeRead, "read users, sessions, persons, apps and binding delays", nil},
	{ScopeSupport, "read; end sessions, disable, enable, bind, unbind, lift delays", []Scope{ScopeRead}},
	{ScopePersons, "create, update and import persons, mint bind tickets", nil},
	{ScopeAudit, "read the audit log", nil},
	{ScopeAdmin, "all of the admin API: read, support, persons, audit, and more", []Scope{ScopeRead, ScopeSupport, ScopePersons, ScopeAudit}},
}

// Table returns what each scope allows and includes, in the order in which keys have the
// scopes. A scope that no other includes is needed beside it: a key that can end every
// session need not see an openid.
func Table() []ScopeRow { return slices.Clone(table) }

// Scopes returns all scopes, in the order of [Table].
func Scopes() []Scope {
	var all []Scope
	for _, row := range table {
		all = append(all, row.Scope)
	}
	return all
}

// Has reports whether the key has the scope, or a scope that includes it.
func (k *Key) Has(s Scope) bool {
	return slices.ContainsFunc(table, func(row ScopeRow) bool {
		return slices.Contains(k.Scopes, row.Scope) && (row.Scope == s || slices.Contains(row.Includes, s))
	})
}

// ScopeText returns scopes as OAuth writes them: separated by spaces.
func ScopeText(scopes []Scope) string { return joinScopes(scopes, " ") }

func joinScopes(scopes []Scope, sep string) string {
	words := make([]string, len(scopes))
	for i, s := range scopes {
		words[i] = string(s)
	}
	return strings.Join(words, sep)
}
