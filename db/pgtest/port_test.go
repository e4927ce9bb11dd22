package pgtest

import "testing"

// TestAStoppedServerKeepsItsPort holds that no other server gets the port of one
// that is stopped, in whichever process: it could not start again.
func TestAStoppedServerKeepsItsPort(t *testing.T) {
	t.Parallel()
	s := NewServer(t)
	for range 2 {
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		if hold, err := take(s.port); err == nil {
			_ = hold.Close()
			t.Error("another server gets it")
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
	}
}
