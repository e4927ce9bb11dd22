package auth_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

func TestSubject(t *testing.T) {
	t.Parallel()
	identity, session := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	cause := &auth.Error{Code: auth.SessionRevoked, Err: errors.New("cause")}
	err := fmt.Errorf("outer: %w", auth.About(fmt.Errorf("inner: %w", auth.About(cause, auth.Subject{AppID: "wx1", Identity: identity})), auth.Subject{AppID: "other", Session: session}))
	if got, want := auth.SubjectOf(err), (auth.Subject{AppID: "wx1", Identity: identity, Session: session}); got != want {
		t.Errorf("SubjectOf() = %v, want %v", got, want)
	}
	if auth.CodeOf(err) != auth.SessionRevoked || !errors.Is(err, auth.SessionRevoked) || !errors.Is(err, cause) {
		t.Errorf("About() hides the code or the cause of %v", err)
	}
	if auth.About(cause, auth.Subject{}).Error() != cause.Error() {
		t.Error("About() changes the text")
	}
	if auth.About(nil, auth.Subject{AppID: "wx1"}) != nil {
		t.Error("About(nil) is not nil")
	}
	if got := auth.SubjectOf(cause); got != (auth.Subject{}) {
		t.Errorf("SubjectOf() without a subject = %v", got)
	}
	if got := auth.SubjectOf(nil); got != (auth.Subject{}) {
		t.Errorf("SubjectOf(nil) = %v", got)
	}
}
