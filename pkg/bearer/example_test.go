package bearer_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/yufu-auth/yufu/pkg/bearer"
	"github.com/yufu-auth/yufu/pkg/bearer/bearertest"
)

// orders is a handler of a back end. Behind the middleware, the request's context has the
// identity.
func orders(w http.ResponseWriter, r *http.Request) {
	id, ok := bearer.FromContext(r.Context())
	if !ok {
		panic("this handler is not behind Require")
	}
	fmt.Fprintf(w, "the orders of %s, whose token is good until %s\n", id.UUID, id.ExpiresAt.Format(time.TimeOnly))
}

// salary serves data that belongs to a person, in any mini-program.
func salary(w http.ResponseWriter, r *http.Request) {
	id, _ := bearer.FromContext(r.Context())
	fmt.Fprintf(w, "the salary of %s\n", id.Person)
}

// A back end that accepts the tokens of a service.
func Example() { //nolint:testableexamples // it serves until the process ends
	v, err := bearer.New(context.Background(), bearer.Config{
		Issuer:     "https://auth.example.com", // the service's YUFU_ISSUER
		Audience:   "shop",                     // this back end, among the app's audiences
		ServiceKey: os.Getenv("YUFU_SERVICE_KEY"),
		Logger:     slog.Default(),
	})
	if err != nil {
		log.Fatal(err) // the configuration is wrong
	}
	defer v.Close()

	mux := http.NewServeMux()
	mux.Handle("GET /orders", v.Require(http.HandlerFunc(orders)))      // any valid token
	mux.Handle("GET /salary", v.RequireBound(http.HandlerFunc(salary))) // 403 for users without a person
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := v.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	if err := http.ListenAndServe("127.0.0.1:8090", mux); err != nil {
		log.Print(err)
	}
}

// Without an http.Handler, call the verifier itself.
func ExampleVerifier_Verify() {
	verify := func(ctx context.Context, v *bearer.Verifier, token string) error {
		claims, err := v.Verify(ctx, token)
		switch {
		case errors.Is(err, bearer.ErrExpired):
			return errors.New("tell the client to refresh")
		case errors.Is(err, bearer.ErrRevoked):
			return errors.New("tell the client to refresh or log in")
		case errors.Is(err, bearer.ErrStale), errors.Is(err, bearer.ErrMisconfigured):
			return errors.New("our trouble: let the client try again")
		case err != nil: // ErrInvalid
			return errors.New("tell the client to log in")
		}
		fmt.Println("the user is", claims.Subject)
		return nil
	}

	var t testing.T // in your tests, use the test's own t
	yufu := bearertest.New(&t)
	v := yufu.Verifier()
	const alice, session = "01900000-0000-7c00-8000-00000000000b", "01900000-0000-7c00-8000-00000000000a"
	token := yufu.Token(bearer.Claims{Subject: alice, Session: session})
	fmt.Println(verify(context.Background(), v, token))
	yufu.RevokeSession(session)
	fmt.Println(verify(context.Background(), v, token))
	// Output:
	// the user is 01900000-0000-7c00-8000-00000000000b
	// <nil>
	// tell the client to refresh or log in
}

func ExampleVerifier_RequireBound() {
	var t testing.T // in your tests, use the test's own t
	yufu := bearertest.New(&t)
	h := yufu.Verifier().RequireBound(http.HandlerFunc(salary))
	ask := func(token string) {
		r := httptest.NewRequest(http.MethodGet, "/salary", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		fmt.Print(w.Code, " ", w.Body)
	}
	ask(yufu.Token(bearer.Claims{Person: "01900000-0000-7c00-8000-00000000000c"}))
	ask(yufu.Token(bearer.Claims{}))
	// Output:
	// 200 the salary of 01900000-0000-7c00-8000-00000000000c
	// 403 {"type":"urn:yufu:problem:person_required","title":"The user must be bound to a person; bind first.","status":403,"code":"person_required"}
}
