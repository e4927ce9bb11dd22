package servicekey

import (
	"context"
	"crypto/subtle"
	"errors"
	"sync"
	"time"

	"github.com/yufu-auth/yufu/pkg/auth"
)

const (
	// FreshFor is how long keys are used before they are read again, and so how long a
	// revoked key may still work.
	FreshFor = time.Second
	// StaleFor is the minimum time for which keys are used when the database does not
	// answer.
	StaleFor = time.Minute

	// readTimeout bounds a read or a write of this package.
	readTimeout = 2 * time.Second
	// retryPause is the pause after a failed read.
	retryPause = 100 * time.Millisecond
	// maxUnknownLookups is the maximum number of lookups of unknown ids in a second:
	// keys that were made since the last read, and bogus ones. Beyond it, a new key
	// works only after the next read.
	maxUnknownLookups = 20
	// touchEvery is the minimum time between two writes of a key's last use.
	touchEvery = time.Minute
)

// The causes under [auth.ServiceKeyInvalid], only for the log.
var (
	errUnknown = errors.New("servicekey: unknown key id")
	errSecret  = errors.New("servicekey: wrong secret")
	errRevoked = errors.New("servicekey: the key was revoked")
	errExpired = errors.New("servicekey: the key has expired")
)

// Authenticator authenticates service keys. It keeps all keys in memory, of which there
// are tens, and reads them again on the first use after [FreshFor]. It is safe for
// concurrent use.
type Authenticator struct {
	store    Store
	staleFor time.Duration
	// clock is this machine's, for ages; now is the database's, for the expiry of keys.
	clock, now func() time.Time

	running    context.Context // until Close
	stop       context.CancelFunc
	background sync.WaitGroup

	mu       sync.Mutex
	known    map[string]Key
	readAt   time.Time     // when the read of known began; zero: never
	reading  chan struct{} // closed when the read under way is done; nil: none
	readErr  error         // of the last read, if it failed
	failedAt time.Time     // when that read failed
	// Lookups of unknown ids in the second that began then.
	lookupWindow time.Time
	lookups      int
	touched      map[string]time.Time
}

// NewAuthenticator returns an authenticator. While the database does not answer,
// the known keys are used for [StaleFor], or for maxStaleness if that is longer, because
// validation from memory needs them. Clock is this machine's, with its monotonic
// reading; now returns the time by the database's clock. The caller must call
// [Authenticator.Close].
func NewAuthenticator(store Store, maxStaleness time.Duration, clock, now func() time.Time) *Authenticator {
	running, stop := context.WithCancel(context.Background())
	return &Authenticator{
		store: store, staleFor: max(StaleFor, maxStaleness), clock: clock, now: now, running: running, stop: stop,
		known: map[string]Key{}, touched: map[string]time.Time{},
	}
}

// Close ends the background work and waits for it.
func (a *Authenticator) Close() {
	a.stop()
	a.background.Wait()
}

// Authenticate returns the presented key if it is valid.
//
// Errors: [auth.ServiceKeyInvalid], with no difference between a malformed, unknown,
// revoked or expired key and a wrong secret; [auth.StorageUnavailable] when the keys in
// memory are too old and the database does not answer; the context's.
func (a *Authenticator) Authenticate(ctx context.Context, presented auth.Secret) (Key, error) {
	p, err := Parse(presented)
	if err != nil {
		return Key{}, err
	}
	k, err := a.key(ctx, p.ID)
	if err != nil && !errors.Is(err, errUnknown) {
		return Key{}, err
	}
	// Compute the same for every id: an unknown id has a hash of zeros, which no secret
	// has.
	hash := p.Hash()
	same := subtle.ConstantTimeCompare(hash[:], k.Hash[:]) == 1
	switch {
	case err != nil:
		return Key{}, &auth.Error{Code: auth.ServiceKeyInvalid, Err: err}
	case !same:
		return Key{}, &auth.Error{Code: auth.ServiceKeyInvalid, Err: errSecret}
	case !k.RevokedAt.IsZero():
		return Key{}, &auth.Error{Code: auth.ServiceKeyInvalid, Err: errRevoked}
	case k.Expired(a.now()):
		return Key{}, &auth.Error{Code: auth.ServiceKeyInvalid, Err: errExpired}
	}
	a.touch(k)
	return k, nil
}

// key returns the key of an id, or errUnknown.
func (a *Authenticator) key(ctx context.Context, id string) (Key, error) {
	if err := a.refresh(ctx, id); err != nil {
		return Key{}, err
	}
	a.mu.Lock()
	now := a.clock()
	age := now.Sub(a.readAt)
	k, known := a.known[id]
	switch {
	case known && age < a.staleFor:
		a.mu.Unlock()
		return k, nil
	case a.readErr != nil || age >= a.staleFor:
		err := a.readErr
		a.mu.Unlock()
		return Key{}, &auth.Error{Code: auth.StorageUnavailable, Err: err}
	case !a.admit(now):
		a.mu.Unlock()
		return Key{}, errUnknown
	}
	a.mu.Unlock()

	// The key may have been made since the last read.
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	k, err := a.store.ServiceKey(ctx, id)
	if errors.Is(err, auth.NotFound) {
		return Key{}, errUnknown
	}
	if err != nil {
		return Key{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.known[id] = k
	return k, nil
}

// admit counts the lookup of an unknown id, or refuses it. The lock is held.
func (a *Authenticator) admit(now time.Time) bool {
	if since := now.Sub(a.lookupWindow); since < 0 || since >= time.Second {
		a.lookupWindow, a.lookups = now, 0
	}
	a.lookups++
	return a.lookups <= maxUnknownLookups
}

// refresh reads the keys if they are not fresh, and waits for the read. Concurrent calls
// share one read. A known key does not wait for a database that did not answer the last
// time. The only error is the context's.
func (a *Authenticator) refresh(ctx context.Context, id string) error {
	a.mu.Lock()
	now := a.clock()
	age := now.Sub(a.readAt)
	if age >= 0 && age < FreshFor || a.running.Err() != nil ||
		a.readErr != nil && a.reading == nil && now.Sub(a.failedAt) < retryPause {
		a.mu.Unlock()
		return nil //nolint:nilerr // after Close nothing is read; the known keys decide
	}
	done := a.reading
	if done == nil {
		done = make(chan struct{})
		a.reading = done
		a.background.Go(func() { a.readAll(now, done) })
	}
	_, known := a.known[id]
	wait := a.readErr == nil || !known || age >= a.staleFor
	a.mu.Unlock()
	if !wait {
		return nil
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// readAll reads the keys. Their age counts from began.
func (a *Authenticator) readAll(began time.Time, done chan<- struct{}) {
	ctx, cancel := context.WithTimeout(a.running, readTimeout)
	defer cancel()
	keys, err := a.store.ServiceKeys(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	defer close(done)
	a.reading = nil
	if err != nil {
		a.readErr, a.failedAt = err, a.clock()
		return
	}
	a.readErr, a.readAt = nil, began
	a.known = make(map[string]Key, len(keys))
	for _, k := range keys {
		a.known[k.ID] = k
	}
	for id := range a.touched {
		if _, there := a.known[id]; !there {
			delete(a.touched, id)
		}
	}
}

// touch writes the last use of a key, in the background and at most once a minute. It
// ignores failures, because the time is only a hint for removing unused keys.
func (a *Authenticator) touch(k Key) {
	now := a.now()
	if now.Sub(k.LastUsedAt) < touchEvery {
		return // written recently: the usual case takes no lock
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	id := k.ID // the closure must not move k to the heap at every use
	if now.Sub(a.touched[id]) < touchEvery || a.running.Err() != nil {
		return
	}
	a.touched[id] = now
	a.background.Go(func() {
		ctx, cancel := context.WithTimeout(a.running, readTimeout)
		defer cancel()
		_ = a.store.TouchServiceKey(ctx, id, now.UTC())
	})
}
