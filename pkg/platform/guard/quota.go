package guard

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
)

const (
	// maxCallers is the maximum number of callers that are remembered as held back, per
	// app.
	maxCallers = 1 << 12
	// quotaPause is how long a caller, or the app, is held back.
	quotaPause = time.Minute
	// quotaCallers is the number of callers that must be refused within a pause, with no
	// caller let in meanwhile, before the whole app is held back.
	quotaCallers = 3
	// trickleInterval is the time between two calls that go out despite a hold.
	trickleInterval = time.Second
)

var errHeldBack = errors.New("guard: the platform's rate limit was reached")

// quota holds back callers that the platform refused because of a quota, and the whole
// app when it refused several of them. It is safe for concurrent use.
type quota struct {
	mu      sync.Mutex
	callers map[string]*hold
	refused map[string]struct{} // owners of callers refused since a caller was last let in
	until   time.Time           // when the hold of the whole app ends
	// The time of the next call while the whole app is held back: nextFresh for callers
	// that are not held back, and nextHeld for all others together. Callers that use up
	// their turns do not use up those of the others.
	nextFresh, nextHeld time.Time
}

// hold is one caller that is held back.
type hold struct {
	until time.Time // when the hold ends
	next  time.Time // when one more call of the caller may go out
	// probe means that the platform has not refused this caller: it only used its turn
	// while the whole app was held back.
	probe bool
}

func newQuota() *quota {
	return &quota{callers: make(map[string]*hold), refused: make(map[string]struct{})}
}

// check returns an error with the time to wait for a caller that is held back, unless one
// of its calls may go out now.
func (q *quota) check(caller string, now time.Time) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, err := q.nextCall(caller, now)
	return err
}

// take is check right before a call goes out, and takes the caller's turn. undo gives the
// turn back, for a call that was not sent.
func (q *quota) take(caller string, now time.Time) (undo func(), err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	next, err := q.nextCall(caller, now)
	if err != nil || next == nil {
		return func() {}, err
	}
	before := *next
	*next = now.Add(trickleInterval)
	added := false
	if q.callers[caller] == nil && len(q.callers) < maxCallers {
		q.callers[caller] = &hold{until: now.Add(quotaPause), next: *next, probe: true}
		added = true
	}
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		*next = before
		if h := q.callers[caller]; added && h != nil && h.probe {
			delete(q.callers, caller)
		}
	}, nil
}

// nextCall returns the time of the next call of a caller that is held back, or nil for
// any other caller. The error has the length of the hold.
func (q *quota) nextCall(caller string, now time.Time) (next *time.Time, err error) {
	h := q.callers[caller]
	if h != nil && !h.until.After(now) {
		delete(q.callers, caller)
		delete(q.refused, owner(caller))
		h = nil
	}
	wait := q.until.Sub(now)
	all := wait > 0
	if h != nil && h.probe && !all {
		h = nil
	}
	switch {
	case all && h != nil:
		next, wait = &q.nextHeld, max(wait, h.until.Sub(now))
	case all:
		next = &q.nextFresh
	case h != nil:
		next, wait = &h.next, h.until.Sub(now)
	default:
		return nil, nil
	}
	if now.Before(*next) {
		return nil, &auth.Error{Code: auth.PlatformQuota, RetryAfter: wait, Err: errHeldBack}
	}
	return next, nil
}

// owner returns the identity by which several callers are counted: an IPv4 address, or
// the /48 of an IPv6 network, the size that one customer gets.
func owner(caller string) string {
	p, err := netip.ParsePrefix(caller)
	if err != nil || !p.Addr().Is6() || p.Bits() < 48 {
		return caller
	}
	return netip.PrefixFrom(p.Addr(), 48).Masked().String()
}

// holdBack holds a caller back, and the whole app if enough callers are held back. It
// reports whether the app is held back.
func (q *quota) holdBack(caller string, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for c, h := range q.callers {
		if !h.until.After(now) {
			delete(q.callers, c)
			delete(q.refused, owner(c))
		}
	}
	h := q.callers[caller]
	if h == nil && len(q.callers) < maxCallers {
		h = &hold{probe: true}
		q.callers[caller] = h
	}
	if h != nil {
		if h.probe {
			// A caller that is refused again counts once: the calls that pass despite its
			// hold must not hold back the app.
			q.refused[owner(caller)] = struct{}{}
			h.next = now.Add(trickleInterval)
		}
		h.until, h.probe = now.Add(quotaPause), false
	}
	if len(q.refused) < quotaCallers {
		return false
	}
	if !q.until.After(now) {
		q.nextFresh, q.nextHeld = now.Add(trickleInterval), now.Add(trickleInterval)
	}
	q.until = now.Add(quotaPause)
	return true
}

// recordSuccess records that the platform let a caller in: neither the caller's nor the
// app's quota is used up.
func (q *quota) recordSuccess(caller string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.callers, caller)
	clear(q.refused)
	q.until = time.Time{}
}
