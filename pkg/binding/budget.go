package binding

import (
	"sync"
	"time"

	"github.com/google/uuid"
)

// The failure budget of an app. Limits per user, value and network do not see a
// guesser who has many users and networks and makes few guesses with each. What
// such a guesser cannot hide is how many attempts of the app fail.
const (
	// budgetFailures in the last minute are free, as are any number of failures
	// when at most budgetPercent of the attempts in this minute fail.
	budgetFailures = 60
	budgetPercent  = 80
	// slowedGap is the time between two attempts that go through when the budget
	// is used up. It is never longer, or a stranger could shut out everybody.
	slowedGap = time.Second
	// budgetSeconds is the length of the minute, and slowedAudit how often one is
	// written into the trail.
	budgetSeconds = 60
	slowedAudit   = time.Minute
)

// budgets are the failure budgets of apps. They are kept in the memory of this
// replica: a row in the database would be locked by every attempt of an app, and
// a flood is when that hurts most. Several replicas therefore admit several times
// as much. There are as many as apps.
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
	// bound are the persons whom attempts bound lately, in two generations of a
	// minute. A success with one of them says nothing: a guesser repeats a value that is known.
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

// wait returns how long an attempt of the app at now has to wait; zero means that
// it may go on to [budgets.admit]. It counts nothing.
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

// settle corrects what was counted for an attempt that bound this person, or that
// could not be judged: then the person is [uuid.Nil]. Each person counts once in a
// minute, or a guesser would hide failures behind successes that cost nothing.
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

// markBound records that a person was bound, and reports whether that is the first time
// lately.
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

// recordRefusal counts an attempt that was slowed down. It returns the attempts and the
// failures of the last minute when they are to be written into the trail, which
// is once a minute.
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

// auditAgain has the next refusal audited, because the last event could not be written.
func (b *budgets) auditAgain(app string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.apps[app].audited = time.Time{}
}

// refused returns how many attempts were slowed down so far.
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
		return 0 // a clock that went back makes no wait longer
	}
	if attempts, failures := a.count(now); failures <= budgetFailures || failures*100 <= attempts*budgetPercent {
		return 0
	}
	return slowedGap - passed
}

// count returns the attempts and the failures of the last minute. Seconds that
// lie in the future, of a clock that went back, are among them.
func (a *budget) count(now time.Time) (attempts, failures int) {
	for _, s := range a.seconds {
		if now.Unix()-s.at < budgetSeconds {
			attempts, failures = attempts+s.attempts, failures+s.failures
		}
	}
	return attempts, failures
}

// SlowedFacts returns how many attempts to bind by facts were refused so far
// because too many attempts of their app failed.
func (s *Service) SlowedFacts() uint64 { return s.budgets.refused() }
