package adminclient

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Error is an answer that is not a success, or not one of the admin API. Use
// errors.As to get it.
type Error struct {
	// StatusCode is the HTTP status. With a status below 300, something else than
	// the admin API is at the address.
	StatusCode int
	// Problem is what the service says about the error. It is zero when something
	// else answered, for example a proxy.
	Problem Problem
	// RetryAfter is how long the service asks to wait, or 0.
	RetryAfter time.Duration
}

// Error implements error with the status, the code and the request id, which finds
// the cause in the service's log.
func (e *Error) Error() string {
	if e.StatusCode < 300 {
		return fmt.Sprintf("yufu admin API: HTTP status %d with an answer of another server", e.StatusCode)
	}
	if e.Problem.Code == "" {
		return fmt.Sprintf("yufu admin API: HTTP status %d", e.StatusCode)
	}
	text := e.Problem.Detail
	if text == "" {
		text = e.Problem.Title
	}
	return fmt.Sprintf("yufu admin API: %s (%d): %s (request %s)", e.Problem.Code, e.StatusCode, text, e.Problem.RequestID)
}

// CodeOf returns the code of an [*Error] in err's tree, or "".
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Problem.Code
	}
	return ""
}

// errorOf returns the error of an answer that is not a success.
func errorOf(resp *http.Response, body []byte) *Error {
	e := &Error{StatusCode: resp.StatusCode}
	if json.Unmarshal(body, &e.Problem) != nil {
		e.Problem = Problem{}
	}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		e.RetryAfter = time.Duration(min(seconds, 24*60*60)) * time.Second
	}
	return e
}
