package pgtest

import "testing"

// TestStoppedServerKeepsPort checks that no other server of any process gets the port of
// a stopped server, which could not start again.
func TestStoppedServerKeepsPort(t *testing.T) {
	t.Parallel()
	s := NewServer(t)
	for range 2 {
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		if hold, err := take(s.port); err == nil {
			_ = hold.Close()
			t.Error("take() of a stopped server's port succeeded, want an error")
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
	}
}
