package binding_test

import (
	"errors"
	"testing"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/binding"
)

func TestUnfitReplica(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	unfit := &auth.Error{Code: auth.StorageUnavailable, Err: errors.New("its clock is off")}
	var reason error
	c := w.Config
	c.CheckMayIssue = func() error { return reason }
	w.Binding = binding.NewService(c)
	g, ticket := w.Login("alice"), w.Ticket(w.LiLei)

	reason = unfit
	if got, err := w.ByTicket(g.AccessToken, ticket); !errors.Is(err, unfit) || got.AccessToken != "" {
		t.Errorf("Bind() error = %v, want %v", err, unfit)
	}
	if got, err := w.Binding.Unbind(t.Context(), g.AccessToken, "REQ1"); !errors.Is(err, unfit) || got.AccessToken != "" {
		t.Errorf("Unbind() error = %v, want %v", err, unfit)
	}
	if _, err := w.Binding.Show(t.Context(), g.AccessToken); err != nil {
		t.Errorf("Show() error = %v", err)
	}
	if _, err := w.Binding.Preview(t.Context(), g.AccessToken, ticket); err != nil {
		t.Errorf("Preview() error = %v", err)
	}
	reason = nil
	bound, err := w.ByTicket(g.AccessToken, ticket)
	mustBind(t, bound, err)
	reason = unfit
	if got, err := w.Binding.Unbind(t.Context(), bound.AccessToken, "REQ2"); !errors.Is(err, unfit) || got.AccessToken != "" {
		t.Errorf("Unbind() error = %v, want %v", err, unfit)
	}
	reason = nil
	if got, err := w.Binding.Unbind(t.Context(), bound.AccessToken, "REQ3"); err != nil || !got.Changed {
		t.Errorf("Unbind() when the replica is fit again: changed = %t, error = %v", got.Changed, err)
	}
}
