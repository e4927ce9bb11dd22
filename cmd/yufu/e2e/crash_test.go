package e2e

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/yufu-auth/yufu/db/pgtest"
)

// phone is a mini-program that refreshes repeatedly.
type phone struct {
	user   string
	access string
	// received is the refresh token of the last answer.
	received string
	answers  int
	// loggedOut reports whether the logout was answered.
	loggedOut bool
	err       error
}

// use refreshes at s until a request fails or stop is set. It calls answered for every
// answered refresh. A broken connection is not an error: the test causes it.
func (p *phone) use(s *service, stop *atomic.Bool, answered func()) {
	for !stop.Load() {
		a, err := s.tryRefresh(p.received)
		if err != nil {
			return
		}
		if a.code() == "rate_limited" {
			continue // one refresh a second is accepted
		}
		if p.err = a.failure(); p.err != nil {
			return
		}
		if a.Doc.RefreshToken == p.received {
			p.err = fmt.Errorf("the refresh did not rotate the token")
			return
		}
		p.received, p.access = a.Doc.RefreshToken, a.Doc.AccessToken
		p.answers++
		answered()
	}
}

// load logs phones in and a few of them out again. The others refresh at s until crash,
// which is called meanwhile, has returned.
func load(s *service, phones, refreshes int, crash func()) []*phone {
	s.t.Helper()
	var all []*phone
	for i := range phones {
		user := fmt.Sprintf("user%d", i)
		a := s.logIn(user)
		all = append(all, &phone{user: user, access: a.Doc.AccessToken, received: a.Doc.RefreshToken})
	}
	for _, p := range all[:phones/10] {
		s.logOut(p.received)
		p.loggedOut = true
	}

	var (
		stop  atomic.Bool
		total atomic.Int64
		half  = make(chan struct{})
		done  sync.WaitGroup
	)
	for _, p := range all {
		if p.loggedOut {
			continue
		}
		done.Go(func() {
			p.use(s, &stop, func() {
				if total.Add(1) == int64(refreshes) {
					close(half)
				}
			})
		})
	}
	stalled := make(chan struct{})
	go func() { done.Wait(); close(stalled) }()
	select {
	case <-half:
	case <-stalled: // with errors, which continueAt reports
	}
	crash()
	stop.Store(true)
	<-stalled
	return all
}

// continueAt lets every phone go on at s with its last refresh token.
func continueAt(s *service, phones []*phone) {
	s.t.Helper()
	for _, p := range phones {
		if p.err != nil {
			s.t.Errorf("%s failed before the crash: %v", p.user, p.err)
			continue
		}
		if p.loggedOut {
			s.refresh(p.received).want(s, 400, "session_revoked")
			s.me(p.access).want(s, 401, "session_revoked")
			continue
		}
		s.me(p.access).want(s, 200, "")
		a := s.refresh(p.received).want(s, 200, "")
		p.received, p.access = a.Doc.RefreshToken, a.Doc.AccessToken
		s.refresh(p.received).want(s, 200, "")
	}
}

// wantNothingLost fails the test if a process found a refresh token that was ahead of
// its row: the database had lost a refresh that was answered.
func wantNothingLost(p *process) {
	p.h.t.Helper()
	for _, l := range p.log() {
		if l.Outcome == "rolled_back" {
			p.h.t.Errorf("%s: an acknowledged refresh was lost", p.name)
		}
	}
}

func TestCrash(t *testing.T) {
	t.Parallel()

	t.Run("a crash of a replica under load loses no answered refresh, and no user logs in again", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		d := deploy(h, pgtest.Empty(t))
		procA, a := d.serve("replica A", "--migrate")
		procB, b := d.serve("replica B", "--migrate")
		d.addApp()

		phones := load(a, 30, 300, procA.kill)
		continueAt(b, phones)
		wantNothingLost(procB)

		restarted, a := d.serve("replica A, restarted")
		for _, p := range phones {
			if !p.loggedOut {
				// B rotated this token: it is a replay, across a restart.
				a.refresh(p.received).want(a, 200, "")
			}
		}
		wantNothingLost(restarted)
	})

	t.Run("a crash of a single process with SQLite under load loses no answered refresh", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		d := deploy(h, "sqlite:"+h.file("yufu.db", ""))
		p, s := d.serve("yufu", "--migrate")
		d.addApp()
		for round := range 2 {
			phones := load(s, 20, 100, p.kill)
			p, s = d.serve(fmt.Sprintf("yufu, restart %d", round+1))
			continueAt(s, phones)
			wantNothingLost(p)
		}
	})
}
