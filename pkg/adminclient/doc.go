// Package adminclient is a Go client of the admin API, for the business's own
// back end.
//
//	admin, err := adminclient.New("http://127.0.0.1:8081", key)
//	answer, err := admin.CreateRevocationWithResponse(ctx, adminclient.RevocationRequest{UUID: &uuid, Reason: &why})
//	if err == nil {
//		err = adminclient.Failure(answer)
//	}
//
// It owns what it adds to client.gen.go, which is made of the contract: the
// service key in each request ([New]), and errors as Go has them ([Failure]).
// It keeps no state and retries nothing.
package adminclient

//go:generate go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -config codegen.yaml ../../api/openapi.yaml
