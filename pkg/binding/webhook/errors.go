package webhook

import (
	"strconv"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// retryAfter is how long a user is told to wait: trouble at a back end is mostly
// over soon.
const retryAfter = 5 * time.Second

// Refused is the back end saying no. Its code is [auth.WebhookRefused].
type Refused struct {
	// UserMessage is for the user: one line of UTF-8, 1 to 255 characters. It may
	// hold anything that the back end wants to tell him, so it does not belong
	// into a log.
	UserMessage string
}

// Error implements error, without the message.
func (*Refused) Error() string { return "webhook: the app's back end refused" }

// Unwrap makes the code known to errors.Is and [auth.CodeOf].
func (*Refused) Unwrap() error { return auth.WebhookRefused }

// Failure is a request without an answer, for the log. It deliberately wraps
// nothing.
type Failure struct {
	// Host is whom we asked, or "" when the URL is none.
	Host string
	// Status is the answer's HTTP status, or 0 when there was none.
	Status int
	// Reason is what went wrong, in words that are harmless.
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

// unavailable gives a failure its code.
func unavailable(f Failure) error {
	return &auth.Error{Code: auth.WebhookUnavailable, RetryAfter: retryAfter, Err: &f}
}
