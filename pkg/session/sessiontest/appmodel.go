package sessiontest

import (
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// appModel models what the guard must and may do for one app. It follows pauses of the
// platform and the breaker from both sides: when the guard must refuse a call, and when
// it may refuse one.
type appModel struct {
	held    map[string]*held
	refused map[string]bool // callers, since one was let in
	until   time.Time       // when the hold of the whole app ends
	// When one more call may go out while the whole app is held back: of a caller
	// that is not held back, and of the others together.
	nextFresh, nextHeld time.Time

	failures []time.Time // of the platform, since its last good answer
	recent   []outcome   // all outcomes
	opened   time.Time   // the latest time at which it may have opened last
	doubtful bool        // it may have opened and not closed since
	probed   int         // good answers since then
}

// held is a caller that is held back, except for an occasional call.
type held struct {
	until, next time.Time
	probe       bool // only because it had its turn while the whole app was
}

type outcome struct {
	at     time.Time
	failed bool
}

func newAppModel() *appModel {
	return &appModel{held: map[string]*held{}, refused: map[string]bool{}}
}

const (
	modelPause   = time.Minute
	modelTrickle = time.Second
	modelOpen    = 5 * time.Second
	modelWindow  = 30 * time.Second
)

// surelyOpen reports whether the last five answers of the platform were failures, all of
// them recent.
func (a *appModel) surelyOpen(now time.Time) bool {
	n := len(a.failures)
	return n >= 5 && now.Before(a.failures[n-1].Add(modelOpen)) && a.failures[n-1].Sub(a.failures[n-5]) < modelWindow-5*time.Second
}

// wary reports whether the guard may admit only a few calls of a caller at once.
func (a *appModel) wary(caller string, at time.Time) bool {
	return a.doubtful || a.nextCall(caller, at) != nil
}

// nextCall returns when the next call of a caller that is held back may go out, or nil
// for a caller that is not.
func (a *appModel) nextCall(caller string, at time.Time) *time.Time {
	h := a.held[caller]
	if h != nil && !h.until.After(at) {
		h = nil
	}
	switch all := a.until.After(at); {
	case all && h != nil:
		return &a.nextHeld
	case all:
		return &a.nextFresh
	case h != nil && !h.probe:
		return &h.next
	}
	return nil
}

// mustHaveAdmitted checks that a call which began at this time and went out did not have
// to be held back.
func (a *appModel) mustHaveAdmitted(rt *rapid.T, caller string, at time.Time) {
	if next := a.nextCall(caller, at); next != nil {
		if at.Before(*next) {
			rt.Fatalf("a call of %s went out, want it held back", caller)
		}
		*next = at.Add(modelTrickle)
		if h := a.held[caller]; h == nil || !h.until.After(at) {
			a.held[caller] = &held{until: at.Add(modelPause), next: *next, probe: true}
		}
	}
	if a.surelyOpen(at) {
		rt.Fatalf("a call went out although the breaker was open")
	}
}

// mayRefuse checks that the guard had a reason for a refusal.
func (a *appModel) mayRefuse(rt *rapid.T, caller string, code auth.Code) {
	now := time.Now()
	if code == auth.PlatformQuota {
		if next := a.nextCall(caller, now); next == nil || !now.Before(*next) {
			rt.Fatalf("%s is held back, want a call admitted now", caller)
		}
		return
	}
	if !a.doubtful {
		rt.Fatalf("the breaker is open after %d failures in a row, and %v before", len(a.failures), a.recent)
	}
	if now.After(a.opened.Add(modelOpen)) {
		rt.Fatalf("the breaker is open for longer than it may be")
	}
}

// answered records the platform's answer to a caller: "" for a good one.
func (a *appModel) answered(caller string, code auth.Code, failed bool) {
	now := time.Now()
	switch {
	case code == "":
		delete(a.held, caller)
		clear(a.refused)
		a.until = time.Time{}
	case code == auth.PlatformQuota:
		for c, h := range a.held {
			if !h.until.After(now) {
				delete(a.held, c)
				delete(a.refused, c)
			}
		}
		h := a.held[caller]
		if h == nil || h.probe {
			h = &held{next: now.Add(modelTrickle)}
			a.held[caller], a.refused[caller] = h, true
		}
		h.until = now.Add(modelPause)
		if len(a.refused) >= 3 {
			if !a.until.After(now) {
				a.nextFresh, a.nextHeld = now.Add(modelTrickle), now.Add(modelTrickle)
			}
			a.until = now.Add(modelPause)
		}
	}
	if code == auth.PlatformUnavailable && !failed {
		return // the answer has no effect
	}
	a.recent = append(a.recent, outcome{now, failed})
	if !failed {
		a.failures = nil
		if a.probed++; a.doubtful && a.probed >= 3 && now.After(a.opened.Add(modelOpen)) {
			a.doubtful = false
		}
		return
	}
	a.failures = append(a.failures, now)
	if a.doubtful || len(a.failures) >= 5 || a.halfFailed(now) {
		a.doubtful, a.opened, a.probed = true, now, 0
	}
}

// halfFailed reports whether half of the last outcomes were failures, for any length of
// the breaker's window: it has coarse steps, and starts over when the breaker closes.
func (a *appModel) halfFailed(now time.Time) bool {
	bad, all := 0, 0
	for _, o := range slices.Backward(a.recent) {
		if now.Sub(o.at) > modelWindow {
			return false
		}
		if all++; o.failed {
			bad++
		}
		if all >= 20 && 2*bad >= all {
			return true
		}
	}
	return false
}
