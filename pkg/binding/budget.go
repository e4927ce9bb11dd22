package binding

import (
	"sync"
	"time"

	"github.com/google/uuid"
)

// The failure budget of an app. Limits per user, value and network do not detect a
// guesser who has many users and networks and makes few guesses with each. But such a
// guesser cannot hide the number of failed attempts of the app.
const (
	// budgetFailures in the last minute are free. Any number of failures is free when at
	// most budgetPercent of the attempts in this minute fail.
	budgetFailures = 60
	budgetPercent  = 80
	// slowedGap is the time between two admitted attempts when the budget is used up. It
	// does not grow, because then a stranger could lock out all users.
	slowedGap = time.Second
	// budgetSeconds is the length of the minute. slowedAudit is the minimum time between
	// two audit events.
	budgetSeconds = 60
	slowedAudit   = time.Minute
)

// budgets are the failure budgets of apps, in the memory of this replica. In a database
// every attempt would lock the row of its app, which would hurt most during a flood.
// Several replicas therefore admit several times as many attempts. There is one budget
// for each app.
type budgets struct {
	mu     sync.Mutex
	apps   map[string]*budget
	slowed uint64
}

// budget counts the attempts of one app in the last minute, by second.
type budget struct {
	seconds  [budgetSeconds]budgetSecond
	admitted time.Time // the last attempt that was admitted
	audited  time.Time
	// bound are the persons that attempts bound recently, in two generations of a
	// minute. A second success with one of them does not count: a guesser can repeat a
	// value that they know.
	bound, boundBefore map[uuid.UUID]struct{}
	boundSince         int64 // Unix time at which bound began
}

type budgetSecond struct {
	at                 int64 // Unix time
	attempts, failures int
}

// admission is an attempt that was admitted, for [budgets.settle].
type admission struct {
	app string
	at  int64
}

// wait returns how long an attempt of the app at now has to wait before [budgets.admit].
// It counts nothing.
func (b *budgets) wait(app string, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a := b.apps[app]; a != nil {
		return a.wait(now)
	}
	return 0
}

// admit counts an attempt, or returns how long it has to wait. It counts as a
// failure until it is settled, so that guesses at the same time see each other.
func (b *budgets) admit(app string, now time.Time) (admission, time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.apps[app]
	if a == nil {
		if b.apps == nil {
			b.apps = map[string]*budget{}
		}
		a = &budget{}
		b.apps[app] = a
	}
	if wait := a.wait(now); wait > 0 {
		return admission{}, wait
	}
	a.admitted = now
	at := now.Unix()
	s := a.second(at)
	if s.at != at {
		*s = budgetSecond{at: at}
	}
	s.attempts++
	s.failures++
	return admission{app, at}, 0
}

// settle corrects the counts for an attempt that bound this person, or that could not be
// judged: then the person is [uuid.Nil]. Each person counts once in a minute, otherwise a
// guesser could hide failures behind repeated successes.
func (b *budgets) settle(d admission, person uuid.UUID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.apps[d.app]
	s := a.second(d.at)
	if s.at != d.at {
		return // more than a minute has passed
	}
	s.failures--
	if person == uuid.Nil || !a.markBound(person, d.at) {
		s.attempts--
	}
}

// markBound records that a person was bound, and reports whether this is the first
// binding of the person in the last minutes.
func (a *budget) markBound(person uuid.UUID, at int64) bool {
	if age := at - a.boundSince; a.bound == nil || age >= budgetSeconds {
		a.boundBefore, a.bound, a.boundSince = a.bound, map[uuid.UUID]struct{}{}, at
		if age >= 2*budgetSeconds {
			a.boundBefore = nil
		}
	}
	_, now := a.bound[person]
	_, before := a.boundBefore[person]
	a.bound[person] = struct{}{}
	return !now && !before
}

// recordRefusal counts an attempt that was refused. Once a minute it returns true, with
// the attempts and the failures of the last minute for the audit event.
func (b *budgets) recordRefusal(app string, now time.Time) (attempts, failures int, audit bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.slowed++
	a := b.apps[app]
	passed := now.Sub(a.audited)
	if 0 <= passed && passed < slowedAudit {
		return 0, 0, false
	}
	a.audited = now
	attempts, failures = a.count(now)
	return attempts, failures, true
}

// auditAgain makes recordRefusal ask for an audit event at the next refusal, because the
// last event could not be written.
func (b *budgets) auditAgain(app string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.apps[app].audited = time.Time{}
}

// refused returns the number of attempts that were refused so far.
func (b *budgets) refused() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.slowed
}

func (a *budget) second(at int64) *budgetSecond {
	return &a.seconds[uint64(at)%budgetSeconds] //nolint:gosec // the time is after 1970
}

func (a *budget) wait(now time.Time) time.Duration {
	passed := now.Sub(a.admitted)
	if passed < 0 || passed >= slowedGap {
		return 0 // passed is negative if the clock went back
	}
	if attempts, failures := a.count(now); failures <= budgetFailures || failures*100 <= attempts*budgetPercent {
		return 0
	}
	return slowedGap - passed
}

// count returns the attempts and the failures of the last minute. It includes seconds in
// the future, which exist if the clock went back.
func (a *budget) count(now time.Time) (attempts, failures int) {
	for _, s := range a.seconds {
		if now.Unix()-s.at < budgetSeconds {
			attempts, failures = attempts+s.attempts, failures+s.failures
		}
	}
	return attempts, failures
}

// RefusedFactAttempts returns the number of attempts to bind by facts that were refused so far
// because too many attempts of their app failed.
func (s *Service) RefusedFactAttempts() uint64 { return s.budgets.refused() }
