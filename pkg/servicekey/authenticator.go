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
	// FreshFor is how long the keys that were read are good without another
	// look at the database: how long a revoked key may still work.
	FreshFor = time.Second
	// StaleFor is how long they are good when the database does not answer, at
	// least.
	StaleFor = time.Minute

	// readTimeout bounds a read or a write of this package.
	readTimeout = 2 * time.Second
	// retryPause is between a read that failed and the next.
	retryPause = 100 * time.Millisecond
	// maxUnknownLookups is how many ids that are not known are looked up in a second:
	// keys that were made since the last read, and bogus ones. With more than
	// that a new key waits for the next read.
	maxUnknownLookups = 20
	// touchEvery is how often, at most, the last use of a key is written.
	touchEvery = time.Minute
)

// The causes under [auth.ServiceKeyInvalid], for the log alone.
var (
	errUnknown = errors.New("servicekey: unknown key id")
	errSecret  = errors.New("servicekey: wrong secret")
	errRevoked = errors.New("servicekey: the key was revoked")
	errExpired = errors.New("servicekey: the key has expired")
)

// Authenticator says whose service key it is. It keeps all keys in memory, of
// which there are tens, and reads them again when they are asked for and a
// second old. It is safe for concurrent use.
type Authenticator struct {
	store    Store
	staleFor time.Duration
	// clock is this machine's, which tells ages; now is the database's, by which keys
	// expire.
	clock, now func() time.Time

	running    context.Context // until Close
	stop       context.CancelFunc
	background sync.WaitGroup

	mu       sync.Mutex
	known    map[string]Key
	readAt   time.Time     // when the read began that known is from; zero: never
	reading  chan struct{} // closed when the read under way is done; nil: none
	readErr  error         // of the last read, if it failed
	failedAt time.Time     // when it did
	// Lookups of unknown ids in the second that began then.
	lookupWindow time.Time
	lookups      int
	touched      map[string]time.Time
}

// NewAuthenticator returns an authenticator. When the database does not answer,
// the known keys are good for [StaleFor], or for maxStaleness if that is longer:
// validation that goes on from memory needs them. Clock is this machine's, with its
// monotonic reading; now returns the time by the database's clock. The caller closes
// it.
func NewAuthenticator(store Store, maxStaleness time.Duration, clock, now func() time.Time) *Authenticator {
	running, stop := context.WithCancel(context.Background())
	return &Authenticator{
		store: store, staleFor: max(StaleFor, maxStaleness), clock: clock, now: now, running: running, stop: stop,
		known: map[string]Key{}, touched: map[string]time.Time{},
	}
}

// Close ends what runs in the background, and waits for it.
func (a *Authenticator) Close() {
	a.stop()
	a.background.Wait()
}

// Authenticate returns the key that is presented, if it is good.
//
// Errors: [auth.ServiceKeyInvalid], the same whether the key is malformed,
// unknown, revoked, expired, or has another secret; [auth.StorageUnavailable] when that
// cannot be told; the context's.
func (a *Authenticator) Authenticate(ctx context.Context, presented auth.Secret) (Key, error) {
	p, err := Parse(presented)
	if err != nil {
		return Key{}, err
	}
	k, err := a.key(ctx, p.ID)
	if err != nil && !errors.Is(err, errUnknown) {
		return Key{}, err
	}
	// Whatever the id, the same is computed: an unknown one has the hash of
	// zeros, which no secret has.
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

	// It may have been made since the last read.
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

// refresh has the keys read if what is known is not fresh, by one reader
// however many ask, and waits for it. A key that is known does not wait for a
// database that did not answer the last time. It fails only with the context.
func (a *Authenticator) refresh(ctx context.Context, id string) error {
	a.mu.Lock()
	now := a.clock()
	age := now.Sub(a.readAt)
	if age >= 0 && age < FreshFor || a.running.Err() != nil ||
		a.readErr != nil && a.reading == nil && now.Sub(a.failedAt) < retryPause {
		a.mu.Unlock()
		return nil //nolint:nilerr // after Close nothing is read; what is known decides
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

// readAll reads the keys, which are then as fresh as its beginning.
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

// touch has the last use of a key written, in the background and at most once a
// minute. It is a help for people who tidy up, so a failure is none.
func (a *Authenticator) touch(k Key) {
	now := a.now()
	if now.Sub(k.LastUsedAt) < touchEvery {
		return // it was written and read since: the usual case takes no lock
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.touched[k.ID]) < touchEvery || a.running.Err() != nil {
		return
	}
	a.touched[k.ID] = now
	a.background.Go(func() {
		ctx, cancel := context.WithTimeout(a.running, readTimeout)
		defer cancel()
		_ = a.store.TouchServiceKey(ctx, k.ID, now.UTC())
	})
}
