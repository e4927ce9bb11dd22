package sessiontest

import (
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/yufu-auth/yufu/pkg/auth"
)

// appModel is what the guard must and may do for one app. Pauses of the platform
// and the breaker are followed from both sides: when a call must be refused, and
// when it may be.
type appModel struct {
	held  map[string]time.Time // callers, until when
	told  map[string]bool      // since anybody was let in
	until time.Time            // the whole app, but for a probe now and then
	probe time.Time            // not before then

	failures []time.Time // of the platform, since an answer that was none
	recent   []outcome   // all there were
	opened   time.Time   // when it opened last, at the latest
	doubtful bool        // it may have opened and not closed since
	probed   int         // good answers since
}

type outcome struct {
	at     time.Time
	failed bool
}

func newAppModel() *appModel {
	return &appModel{held: map[string]time.Time{}, told: map[string]bool{}}
}

const (
	modelPause  = time.Minute
	modelProbe  = 3 * time.Second
	modelOpen   = 5 * time.Second
	modelWindow = 30 * time.Second
)

// surelyOpen reports whether five failures in a row, all of them young, were
// the last that was heard of the platform.
func (a *appModel) surelyOpen(now time.Time) bool {
	n := len(a.failures)
	return n >= 5 && now.Before(a.failures[n-1].Add(modelOpen)) && a.failures[n-1].Sub(a.failures[n-5]) < modelWindow-5*time.Second
}

// wary reports whether the guard may let only a few calls through at once.
func (a *appModel) wary(at time.Time) bool { return a.doubtful || a.until.After(at) }

// mustHaveAdmitted holds that a call which began at a time and went out was not
// one to hold back.
func (a *appModel) mustHaveAdmitted(rt *rapid.T, caller string, at time.Time) {
	if a.held[caller].After(at) {
		rt.Fatalf("%s was to be held back", caller)
	}
	if a.until.After(at) {
		if at.Before(a.probe) {
			rt.Fatalf("the app was to be held back")
		}
		a.probe = at.Add(modelProbe)
	}
	if a.surelyOpen(at) {
		rt.Fatalf("the breaker was open")
	}
}

// mayRefuse holds that a refusal had its reason.
func (a *appModel) mayRefuse(rt *rapid.T, caller string, code auth.Code) {
	now := time.Now()
	if code == auth.PlatformQuota {
		if !a.held[caller].After(now) && !a.until.After(now) {
			rt.Fatalf("%s is held back, and nobody said so", caller)
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

// answered notes what the platform said to a caller: "" for a good answer.
func (a *appModel) answered(caller string, code auth.Code, failed bool) {
	now := time.Now()
	switch {
	case code == "":
		clear(a.told)
		a.until = time.Time{}
	case code == auth.PlatformQuota:
		for c, until := range a.held {
			if !until.After(now) {
				delete(a.held, c)
				delete(a.told, c)
			}
		}
		a.held[caller], a.told[caller] = now.Add(modelPause), true
		if len(a.told) >= 3 {
			a.until, a.probe = now.Add(modelPause), now.Add(modelProbe)
		}
	}
	if code == auth.PlatformUnavailable && !failed {
		return // an answer that nobody knows
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

// halfFailed reports whether half of the last outcomes were failures, however
// far back the breaker looks: its window has coarse steps, and begins anew when
// the breaker closes.
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
