package bearer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxKeySet bounds the JWK set, in bytes.
	maxKeySet = 256 << 10
	// keyTimeout bounds one fetch.
	keyTimeout = 5 * time.Second
	// unknownKeyInterval is the shortest time between two fetches for unknown keys.
	unknownKeyInterval = 10 * time.Second
	// The key set is fetched again when its max-age is over, within these bounds.
	minKeyAge     = 30 * time.Second
	defaultKeyAge = 5 * time.Minute
	maxKeyAge     = time.Hour
	// The pauses after a failed fetch.
	minKeyPause = 250 * time.Millisecond
	maxKeyPause = time.Minute
)

// remoteKeys is the issuer's key set. One goroutine fetches it when it grows old, and
// when a token names a key that it does not have. A fetched set stays in use until the
// next fetch succeeds; a key cutoff ends a key anyway.
type remoteKeys struct {
	url        string
	client     *http.Client
	algorithms []string
	log        *slog.Logger
	clock      func() time.Time
	timeout    time.Duration // of one fetch

	set atomic.Pointer[map[string]verificationKey]
	// loaded is closed when the first set has arrived.
	loaded chan struct{}
	// stopped is closed when run has returned.
	stopped chan struct{}
	// wake tells run to fetch now.
	wake chan struct{}

	mu        sync.Mutex
	flight    chan struct{} // closed at the end of the current fetch
	attempted time.Time     // the start of the last fetch
	fetched   time.Time     // the start of the last fetch that succeeded
}

func newRemoteKeys(base string, client *http.Client, algorithms []string, log *slog.Logger, tune tuning) *remoteKeys {
	return &remoteKeys{
		url:        base + "/.well-known/jwks.json",
		client:     client,
		algorithms: algorithms,
		log:        log,
		clock:      tune.clock,
		timeout:    tune.fetchTimeout,
		loaded:     make(chan struct{}),
		stopped:    make(chan struct{}),
		wake:       make(chan struct{}, 1),
	}
}

func (r *remoteKeys) find(kid string) (verificationKey, bool) {
	set := r.set.Load()
	if set == nil {
		return verificationKey{}, false
	}
	key, ok := (*set)[kid]
	return key, ok
}

func (r *remoteKeys) await(ctx context.Context, kid string) (verificationKey, error) {
	if r.set.Load() == nil {
		return verificationKey{}, errNoKeys
	}
	r.mu.Lock()
	now := r.clock()
	if key, ok := r.find(kid); ok {
		r.mu.Unlock()
		return key, nil
	}
	if now.Sub(r.fetched) < unknownKeyInterval {
		r.mu.Unlock()
		return verificationKey{}, errUnknownKey
	}
	if r.flight == nil {
		if now.Sub(r.attempted) < unknownKeyInterval {
			r.mu.Unlock()
			return verificationKey{}, errKeysStale
		}
		r.flight = make(chan struct{})
		r.attempted = now
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
	flight := r.flight
	r.mu.Unlock()

	select {
	case <-flight:
	case <-ctx.Done():
		return verificationKey{}, errKeysStale
	case <-r.stopped:
		return verificationKey{}, errKeysStale
	}
	if key, ok := r.find(kid); ok {
		return key, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.clock().Sub(r.fetched) < unknownKeyInterval {
		return verificationKey{}, errUnknownKey
	}
	return verificationKey{}, errKeysStale
}

// run fetches the set until ctx is done.
func (r *remoteKeys) run(ctx context.Context) {
	defer close(r.stopped)
	failures := 0
	for ctx.Err() == nil {
		r.mu.Lock()
		if r.flight == nil {
			r.flight = make(chan struct{})
		}
		select {
		case <-r.wake: // the wake-up, or one that arrived as the pause ended
		default:
		}
		began := r.clock()
		r.attempted = began
		r.mu.Unlock()

		set, age, err := r.fetch(ctx)

		r.mu.Lock()
		if err == nil {
			first := r.set.Swap(&set) == nil
			r.fetched = began
			if first {
				close(r.loaded)
			}
		}
		close(r.flight)
		r.flight = nil
		r.mu.Unlock()

		var pause time.Duration
		switch {
		case err == nil:
			if failures > 0 {
				r.log.LogAttrs(ctx, slog.LevelInfo, "key fetch recovered", slog.Int("failures", failures))
			}
			failures = 0
			// Earlier than necessary by a random share, so that many back ends do not
			// fetch at the same moment.
			pause = age - rand.N(age/4+1) //nolint:gosec // not used for security
		case ctx.Err() != nil:
			return
		default:
			level := slog.LevelDebug
			if failures == 0 {
				level = slog.LevelWarn
			}
			r.log.LogAttrs(ctx, level, "key fetch failed", slog.Any("error", err))
			pause = backoff(failures, minKeyPause, maxKeyPause)
			failures++
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-r.wake:
		}
		timer.Stop()
	}
}

// fetch returns the key set and how long it may be used.
func (r *remoteKeys) fetch(ctx context.Context) (map[string]verificationKey, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	body, header, err := get(ctx, r.client, r.url, "application/jwk-set+json, application/json", maxKeySet)
	if err != nil {
		return nil, 0, fmt.Errorf("bearer: fetch the key set: %w", err)
	}
	set, skipped, err := parseKeySet(body, r.algorithms)
	for _, reason := range skipped {
		r.log.LogAttrs(ctx, slog.LevelWarn, "issuer key ignored", slog.Any("reason", reason))
	}
	return set, maxAge(header.Get("Cache-Control")), err
}

// get returns a document of the service with at most maxBytes bytes.
func get(ctx context.Context, client *http.Client, url, accept string, maxBytes int64) ([]byte, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Accept", accept)
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("the server returned status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBytes+1))
	if err != nil {
		return nil, nil, err
	}
	if int64(len(body)) > maxBytes {
		return nil, nil, errors.New("the response is too large")
	}
	return body, resp.Header, nil
}

// maxAge returns the max-age of a Cache-Control header, within our bounds.
func maxAge(header string) time.Duration {
	for _, directive := range strings.Split(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		if !strings.EqualFold(name, "max-age") {
			continue
		}
		if seconds, err := strconv.ParseInt(strings.Trim(value, `"`), 10, 32); err == nil {
			return min(max(time.Duration(seconds)*time.Second, minKeyAge), maxKeyAge)
		}
	}
	return defaultKeyAge
}

// backoff returns a random pause below a limit that doubles with each failure ("full
// jitter"), so that many back ends do not reconnect at the same moment.
func backoff(failures int, minPause, maxPause time.Duration) time.Duration {
	limit := maxPause
	if failures < 30 {
		limit = min(minPause<<failures, maxPause)
	}
	return rand.N(limit) + 1 //nolint:gosec // not used for security
}
