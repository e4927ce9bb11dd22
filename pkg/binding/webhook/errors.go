package webhook

import (
	"strconv"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// retryAfter is the delay that clients are asked for: most problems of a back end are
// short.
const retryAfter = 5 * time.Second

// Refused is a refusal by the back end. Its code is [auth.WebhookRefused].
type Refused struct {
	// UserMessage is for the user: one line of UTF-8, 1 to 255 characters. It may
	// hold personal data, so it must not be logged.
	UserMessage string
}

// Error implements error, without the message.
func (*Refused) Error() string { return "webhook: the app's back end refused" }

// Unwrap makes the code known to errors.Is and [auth.CodeOf].
func (*Refused) Unwrap() error { return auth.WebhookRefused }

// Failure is a request without a valid answer, for the log. It deliberately wraps
// nothing.
type Failure struct {
	// Host is the host of the URL, or "" if the URL is not valid.
	Host string
	// Status is the answer's HTTP status, or 0 without an answer.
	Status int
	// Reason says what went wrong, without any secret or personal data.
	Reason string

	timeout bool
}

// Error implements error.
func (e *Failure) Error() string {
	text := "webhook: "
	if e.Host != "" {
		text += e.Host + ": "
	}
	if e.Status != 0 {
		text += "status " + strconv.Itoa(e.Status) + ": "
	}
	return text + e.Reason
}

// Timeout reports whether the request ran out of time.
func (e *Failure) Timeout() bool { return e.timeout }

// unavailable returns the failure with its code.
func unavailable(f Failure) error {
	return &auth.Error{Code: auth.WebhookUnavailable, RetryAfter: retryAfter, Err: &f}
}
