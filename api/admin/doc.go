// Package admin serves the admin API: revocations, persons, the identities bound
// to them, sessions, the policies of apps, service keys, and the keys that sign
// tokens.
//
// It owns what stands under /admin/v1 in the contract: server.gen.go is made of
// openapi.yaml (types, routes, the interface that [API] implements), and the
// rest of the package says what the operations do. A service key is asked for
// before anything else of a request is read; which scope opens what is in
// [web.Scopes]. It does not own the rules (pkg/session, pkg/binding,
// pkg/servicekey, pkg/keyring), nor errors and their form (api/web).
//
// Every change is audited under the actor "service_key:<id>", with the id of
// the request, in the transaction that makes it. A key that is restricted to
// apps sees nothing of other apps: what is theirs is not found. Persons belong to
// no app, so it reaches none: it binds nobody, mints no bind tickets, and a policy
// that it sets gives its app no more of the persons than the one before.
package admin

//go:generate go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -config codegen.yaml ../openapi.yaml
