package wechatsim

import (
	"context"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func (s *sim) fault(f Fault) {
	s.t.Helper()
	if err := s.AddFault(f); err != nil {
		s.t.Fatalf("AddFault() error = %v", err)
	}
}

func TestFault(t *testing.T) {
	t.Parallel()

	t.Run("a call with an errcode has no effect", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		s.fault(Fault{Errcode: -1, Count: 2})
		code := s.NewCode("alice")
		for range 2 {
			a := s.login(appA, code)
			a.refused(t, -1)
			if !strings.HasPrefix(a.Errmsg, "system error, rid: ") {
				t.Errorf("errmsg = %q", a.Errmsg)
			}
		}
		s.login(appA, code).fine(t)
	})

	t.Run("an errcode may have its own text", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		s.fault(Fault{Errcode: 12345, Errmsg: "<new & strange>"})
		if a := s.login(appA, "c"); !strings.HasPrefix(a.body, `{"errcode":12345,"errmsg":"<new & strange>, rid: `) {
			t.Errorf("body = %s", a.body)
		}
	})

	t.Run("a dropped call has taken effect", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		s.fault(Fault{Drop: true})
		code := s.NewCode("alice")
		if a, err := s.try(http.MethodGet, loginPath(appA, code), ""); err == nil {
			t.Errorf("a dropped call was answered: %s", a.body)
		}
		s.login(appA, code).refused(t, 40163)
	})

	for name, tc := range map[string]struct {
		fault  Fault
		status int
		fits   func(body string) bool
	}{
		"an empty answer": {Fault{Empty: true}, 200, func(body string) bool { return body == "" }},
		"half an answer": {Fault{Malformed: true}, 200, func(body string) bool {
			return strings.HasPrefix(body, `{"session_key":"`) && !strings.HasSuffix(body, "}")
		}},
		"a bad gateway":           {Fault{Status: 502}, 502, func(body string) bool { return strings.HasPrefix(body, "<html>") }},
		"a status without a body": {Fault{Status: 204}, 204, func(body string) bool { return body == "" }},
	} {
		t.Run("after "+name+" the code is used", func(t *testing.T) {
			t.Parallel()
			s := start(t, Config{})
			s.fault(tc.fault)
			code := s.NewCode("alice")
			if a := s.login(appA, code); a.status != tc.status || !tc.fits(a.body) {
				t.Errorf("status = %d, body = %q", a.status, a.body)
			}
			s.login(appA, code).refused(t, 40163)
		})
	}

	t.Run("a delayed call has taken effect when the caller gives up", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := New(Config{})
			if err := s.AddFault(Fault{Delay: 10 * time.Minute}); err != nil {
				t.Fatal(err)
			}
			ctx, giveUp := context.WithCancel(t.Context())
			defer giveUp()
			path := loginPath(appA, s.NewCode("alice"))
			answered := make(chan struct{})
			began := time.Now()
			go func() {
				defer close(answered)
				s.Handler().ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, path, http.NoBody))
			}()
			synctest.Wait() // until the call only waits
			if n := len(s.Calls()); n != 1 {
				t.Errorf("%d calls have taken effect, want 1", n)
			}
			giveUp()
			<-answered
			if waited := time.Since(began); waited != 0 {
				t.Errorf("the handler continued for %s after the caller had gone", waited)
			}
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
			if !strings.Contains(w.Body.String(), "40163") {
				t.Errorf("the code still works: %s", w.Body)
			}
		})
	})

	t.Run("a delay can be combined with another fault", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		s.fault(Fault{Errcode: -1, Delay: time.Millisecond})
		s.login(appA, "c").refused(t, -1)
	})

	t.Run("a probability is reproducible with a seed", func(t *testing.T) {
		t.Parallel()
		strikes := func(seed uint64) (pattern string) {
			s := start(t, Config{Seed: seed})
			s.fault(Fault{Errcode: -1, Probability: 0.3})
			for range 200 {
				if s.login(appA, s.NewCode("alice")).Errcode == -1 {
					pattern += "x"
				} else {
					pattern += "."
				}
			}
			return pattern
		}
		first := strikes(7)
		if again := strikes(7); again != first {
			t.Errorf("the same seed gave different faults:\n%s\n%s", first, again)
		}
		if other := strikes(8); other == first {
			t.Error("another seed gave the same faults")
		}
		if n := strings.Count(first, "x"); n < 30 || n > 90 {
			t.Errorf("%d of 200 calls met the fault", n)
		}
	})

	t.Run("a probability with a count ends", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{Seed: 1})
		s.fault(Fault{Errcode: -1, Probability: 0.5, Count: 3})
		struck := 0
		for range 100 {
			if s.login(appA, s.NewCode("alice")).Errcode == -1 {
				struck++
			}
		}
		if struck != 3 || len(s.Faults()) != 0 {
			t.Errorf("%d calls met the fault, %d faults are left; want 3 and 0", struck, len(s.Faults()))
		}
	})

	t.Run("a fault hits only its path and app", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		s.fault(Fault{Errcode: -1, Path: "/cgi-bin/stable_token"})
		s.fault(Fault{Errcode: 45011, AppID: appB})
		s.login(appA, s.NewCode("alice")).fine(t)
		s.login(appB, s.NewCode("alice")).refused(t, 45011)
		s.token(appA, false).refused(t, -1)
		token := s.token(appB, false).fine(t).AccessToken
		s.fault(Fault{Errcode: 45011, AppID: appB})
		s.phone(token, s.NewPhoneCode("alice", "13800001002"), "").refused(t, 45011)
	})

	t.Run("faults hit in order and can be cleared", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		s.fault(Fault{Errcode: 1})
		s.fault(Fault{Errcode: 2, Count: 2})
		s.login(appA, "c").refused(t, 1)
		s.login(appA, "c").refused(t, 2)
		if left := s.Faults(); len(left) != 1 || left[0].Count != 1 {
			t.Errorf("Faults() = %+v", left)
		}
		s.ClearFaults()
		s.login(appA, s.NewCode("alice")).fine(t)
	})

	for name, f := range map[string]Fault{
		"nothing":                 {},
		"two kinds":               {Errcode: -1, Drop: true},
		"errmsg without errcode":  {Errmsg: "x", Drop: true},
		"status 100":              {Status: 100},
		"status 600":              {Status: 600},
		"a negative delay":        {Delay: -1},
		"a delay over 10 minutes": {Delay: time.Hour},
		"a negative count":        {Errcode: -1, Count: -1},
		"probability 2":           {Errcode: -1, Probability: 2},
		"probability NaN":         {Errcode: -1, Probability: math.NaN()},
		"an unknown path":         {Errcode: -1, Path: "/sns"},
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			t.Parallel()
			s := New(Config{})
			if err := s.AddFault(f); err == nil || len(s.Faults()) != 0 {
				t.Errorf("AddFault() error = %v, Faults() = %+v", err, s.Faults())
			}
		})
	}

	t.Run("the number of faults is limited", func(t *testing.T) {
		t.Parallel()
		s := start(t, Config{})
		for range maxFaults {
			s.fault(Fault{Drop: true})
		}
		if err := s.AddFault(Fault{Drop: true}); err == nil {
			t.Error("AddFault() error = nil, want an error")
		}
	})
}

// TestConcurrency checks that a code is redeemed once by concurrent callers. The race
// detector checks the rest.
func TestConcurrency(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	s.fault(Fault{Errcode: -1, Probability: 0.1})
	code := s.NewCode("alice")
	var all sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 32 {
		all.Go(func() {
			s.NewPhoneCode("bob", "13800001002")
			a := s.login(appA, code)
			s.Calls()
			mu.Lock()
			defer mu.Unlock()
			if a.Errcode == 0 {
				won++
			}
		})
	}
	all.Wait()
	if won != 1 || len(s.Calls()) != 32 {
		t.Errorf("%d of %d calls succeeded, want 1 of 32", won, len(s.Calls()))
	}
}
