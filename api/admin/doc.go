// Package admin serves the admin API: revocations, persons, the identities bound
// to them, sessions, apps, service keys, and the keys that sign tokens.
//
// It owns the routes under /admin/v1 of openapi.yaml: one table (routes.go) gives
// each its scope, whether keys that are restricted to apps may use it, its query
// parameters and its handler. A request's service key is checked before anything else
// of the request is read. Answers, and most bodies, are the models of pkg/adminclient.
// It does not own the rules (pkg/session, pkg/person, pkg/app, pkg/servicekey,
// pkg/keyring), nor errors and their form (api/web).
//
// Every change is audited under the actor "service_key:<id>", with the id of the
// request, in the transaction that makes it. For a key that is restricted to apps, the
// data of other apps is not found. Persons belong to no app, so such a key reaches no
// person: it binds no user, mints no bind tickets, and cannot set a policy that gives its
// app more access to persons than before.
//
// Handlers have no state. [web.API] renders their errors.
package admin
