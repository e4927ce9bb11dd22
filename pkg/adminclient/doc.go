// Package adminclient is a Go client of the admin API, for the business's own back
// end. It is a module of its own with one dependency, google/uuid.
//
//	admin, err := adminclient.New(adminclient.Config{URL: "http://127.0.0.1:8081", ServiceKey: key})
//	...
//	revoked, err := admin.Revoke(ctx, adminclient.Revocation{UUID: &user, Reason: "ticket 4711"})
//
// It owns the calls, one method for each operation of the admin API, and their
// errors ([Error]). Its models are generated from openapi.yaml (models.gen.go), and
// the service uses the same ones. It does not own what the operations do:
// openapi.yaml describes them.
//
// In a request, a member that is a pointer may be absent (nil) or empty, and the
// two differ. Any other member that is empty is not sent, unless it is required. In an answer, a pointer
// is nil for null.
//
// A [Client] keeps no state, retries nothing and is safe for concurrent use. It
// follows no redirect, which would take the service key elsewhere, and no error
// holds the key, the address or the query of a request.
package adminclient

//go:generate go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -config models.yaml ../../api/openapi.yaml
