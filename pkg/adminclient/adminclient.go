package adminclient

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// defaultTimeout bounds a call, unless [WithHTTPClient] brings another client:
// longer than the service takes to give up.
const defaultTimeout = 15 * time.Second

// New returns a client of the admin listener at the address, for example
// http://127.0.0.1:8081, that sends the service key with every request. It
// follows no redirect, which would take the key elsewhere.
func New(address, serviceKey string, opts ...ClientOption) (*ClientWithResponses, error) {
	authorize := WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+serviceKey)
		return nil
	})
	own := WithHTTPClient(&http.Client{
		Timeout:       defaultTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	})
	return NewClientWithResponses(strings.TrimRight(address, "/"), append([]ClientOption{own, authorize}, opts...)...)
}

// Error is an answer that is not a success.
type Error struct {
	// StatusCode is the HTTP status.
	StatusCode int
	// Problem is what the service says of it. It is zero when something else
	// answered, for example a proxy.
	Problem Problem
}

// Error implements error with the status, the code and the request id, by which
// the service's log tells the cause.
func (e *Error) Error() string {
	if e.Problem.Code == "" {
		return fmt.Sprintf("yufu admin API: HTTP status %d", e.StatusCode)
	}
	text := e.Problem.Title
	if e.Problem.Detail != nil {
		text = *e.Problem.Detail
	}
	return fmt.Sprintf("yufu admin API: %s (%d): %s (request %s)", e.Problem.Code, e.StatusCode, text, e.Problem.RequestID)
}

// Failure returns an [*Error] if the answer of one of the …WithResponse methods
// is not a success, and nil otherwise.
func Failure(answer interface {
	StatusCode() int
	GetBody() []byte
}) error {
	status := answer.StatusCode()
	if status >= 200 && status < 300 {
		return nil
	}
	e := &Error{StatusCode: status}
	if json.Unmarshal(answer.GetBody(), &e.Problem) != nil {
		e.Problem = Problem{}
	}
	return e
}
