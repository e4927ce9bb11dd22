package adminclient_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/adminclient"
)

// newAdmin returns a client with the service key of the environment.
func newAdmin() *adminclient.Client {
	admin, err := adminclient.New(adminclient.Config{
		URL:        "http://127.0.0.1:8081", // the service's YUFU_ADMIN_LISTEN
		ServiceKey: os.Getenv("YUFU_ADMIN_KEY"),
	})
	if err != nil {
		log.Fatal(err) // the configuration is wrong
	}
	return admin
}

// A back end ends all sessions of a user whose phone was lost.
func Example() { //nolint:testableexamples // it needs a running service
	user := uuid.MustParse("01936e2a-7b1c-7d3e-8f40-5a6b7c8d9e0f") // an access token's sub
	revoked, err := newAdmin().Revoke(context.Background(), adminclient.Revocation{UUID: &user, Reason: "ticket 4711"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(revoked.SessionsRevoked, "sessions ended; no validator accepts their tokens after", revoked.EffectiveBy)
}

// All persons whose name begins with 李, page by page.
func ExampleClient_Persons() { //nolint:testableexamples // it needs a running service
	name := "李"
	for person, err := range newAdmin().Persons(context.Background(), adminclient.PersonQuery{Name: &name}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(person.ExternalID, person.Name)
	}
}

// An error has the service's code, and the request id that finds its cause in the
// service's log.
func ExampleError() { //nolint:testableexamples // it needs a running service
	externalID := "1001"
	_, err := newAdmin().CreatePerson(context.Background(), adminclient.NewPerson{ExternalID: &externalID})
	var e *adminclient.Error
	switch {
	case err == nil:
		fmt.Println("created")
	case adminclient.CodeOf(err) == adminclient.CodePersonConflict:
		fmt.Println("there is a person with this external_id")
	case errors.As(err, &e):
		fmt.Println("refused with status", e.StatusCode, "in request", e.Problem.RequestID)
	default:
		fmt.Println("no answer:", err)
	}
}
