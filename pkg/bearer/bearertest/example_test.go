package bearertest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/bearer/bearertest"
)

// newOrders is the handler that the back end's test is about.
func newOrders(v *bearer.Verifier) http.Handler {
	return v.Require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _ := bearer.FromContext(r.Context())
		fmt.Fprintf(w, "the orders of %s", id.UUID)
	}))
}

// Verifiers of [bearertest.Server.Verifier] share the double's memory: a revocation takes
// effect from the next call on.
func Example() {
	var t testing.T // in your tests, use the test's own t
	yufu := bearertest.New(&t)
	app := newOrders(yufu.Verifier())
	const alice, session = "01900000-0000-7c00-8000-00000000000b", "01900000-0000-7c00-8000-00000000000a"
	token := yufu.Token(bearer.Claims{Subject: alice, Session: session})
	ask := func() {
		r := httptest.NewRequest(http.MethodGet, "/orders", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		app.ServeHTTP(w, r)
		fmt.Println(w.Code)
	}
	ask()
	yufu.RevokeSession(session)
	ask()
	// Output:
	// 200
	// 401
}
