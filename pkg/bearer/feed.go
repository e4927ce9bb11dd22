package bearer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"mime"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
)

const (
	// The pauses between connections to the feed.
	minFeedPause = 100 * time.Millisecond
	maxFeedPause = 5 * time.Second
	// The pause after the service refused the service key.
	refusedPause = 30 * time.Second
	// eventTimeout is how long the feed waits for the next event before it
	// reconnects: three heartbeats.
	eventTimeout = 3 * cutoff.HeartbeatInterval
	// firstEventTimeout is the same for the first event of a connection. A later first
	// event is too old to prove freshness. An earlier one may be delayed, and all events
	// after it too.
	firstEventTimeout = DefaultMaxStaleness
	// pruneInterval is the time between removals of expired cutoffs.
	pruneInterval = time.Minute
)

// feed follows the service's revocations: one goroutine, one connection.
type feed struct {
	url               string
	client            *http.Client
	serviceKey        string
	log               *slog.Logger
	clock             func() time.Time
	set               *cutoff.Set
	firstEventTimeout time.Duration
	eventTimeout      time.Duration
	refusedPause      time.Duration

	// maxStaleness is the configured bound on staleness.
	maxStaleness time.Duration
	// knowledge is the content of the last heartbeat, nil before the first.
	knowledge atomic.Pointer[knowledge]
	// loaded is closed when the first snapshot is complete.
	loaded chan struct{}
	// keyScope is the scope of the service key, nil before it has arrived. needsPin means
	// that the pin selects the accepted tokens; apps are those of [Config].
	keyScope atomic.Pointer[keyScope]
	needsPin bool
	apps     []string

	// The rest belongs to run.
	lastID   string
	prunedAt time.Time
	skewed   bool
	// unknownKindLogged means that a cutoff of an unknown kind has been logged.
	unknownKindLogged bool
}

// knowledge is the age of our data at the time of a heartbeat.
type knowledge struct {
	age          time.Duration // at the service, when it sent the heartbeat
	sent         time.Time     // by the service's clock
	received     time.Time     // by ours, with its monotonic reading
	maxStaleness time.Duration // the bound on staleness
}

// staleness returns the maximum age of our revocation data. A heartbeat that was delayed
// makes the first measure too small, a wrong clock the second.
func (k *knowledge) staleness(now time.Time) time.Duration {
	return max(k.age+max(now.Sub(k.received), 0), now.Sub(k.sent))
}

// serviceClock returns the time of the service's clock, which is needed when ours is
// slow.
func (k *knowledge) serviceClock(now time.Time) time.Time {
	return k.sent.Add(max(now.Sub(k.received), 0))
}

// The reasons to close the connection.
var (
	errNoEvents  = errors.New("bearer: the feed sent no heartbeat")
	errReplica   = errors.New("bearer: the replica's own data is stale")
	errRefused   = errors.New("bearer: the service rejected the service key")
	errNoStream  = errors.New("bearer: the feed's answer is not an event stream")
	errForbidden = fmt.Errorf("%w: it needs the scope service", errRefused)
)

// run follows the feed until ctx is done.
func (f *feed) run(ctx context.Context) {
	failures := 0
	for {
		began := time.Now()
		err := f.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if f.lastID != "" && time.Since(began) > maxFeedPause {
			failures = 0 // the connection worked for a while
		}
		pause := backoff(failures, minFeedPause, maxFeedPause)
		switch {
		case errors.Is(err, errRefused):
			f.log.LogAttrs(ctx, slog.LevelError, "service key rejected by the revocation feed, tokens will be refused", slog.Any("error", err))
			pause = f.refusedPause/2 + rand.N(f.refusedPause/2+1) //nolint:gosec // not used for security
		case errors.Is(err, cutoff.ErrMalformed):
			f.log.LogAttrs(ctx, slog.LevelError, "malformed event in the revocation feed, tokens will be refused", slog.Any("error", err))
		case failures == 0:
			f.log.LogAttrs(ctx, slog.LevelWarn, "revocation feed lost, reconnecting", slog.Any("error", err))
		default:
			f.log.LogAttrs(ctx, slog.LevelDebug, "revocation feed connection failed", slog.Any("error", err), slog.Int("failures", failures))
		}
		failures++
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// follow connects once and applies events until the connection ends.
func (f *feed) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Only complete events count as a sign of life: a proxy may send less than that to
	// keep a dead connection open.
	watchdog := time.AfterFunc(f.firstEventTimeout, func() { cancel(errNoEvents) })
	defer watchdog.Stop()

	err := f.connect(ctx, watchdog)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

func (f *feed) connect(ctx context.Context, watchdog *time.Timer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url, http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	// Compression would delay events.
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("Cache-Control", "no-store")
	req.Header.Set("Authorization", "Bearer "+f.serviceKey)
	if f.lastID != "" {
		req.Header.Set("Last-Event-ID", f.lastID)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return errRefused
	case resp.StatusCode == http.StatusForbidden:
		return errForbidden
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("bearer: the feed returned status %d", resp.StatusCode)
	case mediaType != "text/event-stream":
		return errNoStream
	}
	return f.read(ctx, resp.Body, watchdog)
}

// read applies the events of one connection.
func (f *feed) read(ctx context.Context, body io.Reader, watchdog *time.Timer) error {
	events := cutoff.NewReader(body)
	resumed := f.lastID != "" // events follow an id
	ready := false            // everything up to an id has arrived
	for {
		e, err := events.Next()
		if err != nil {
			return err
		}
		watchdog.Reset(f.eventTimeout)
		switch e.Name {
		case cutoff.EventCutoff:
			c, err := cutoff.ParseCutoff(e.Data)
			switch {
			case errors.Is(err, cutoff.ErrUnknownKind):
				// The service sends the same in kinds that we know.
				if !f.unknownKindLogged {
					f.unknownKindLogged = true
					f.log.LogAttrs(ctx, slog.LevelWarn, "unknown kind of cutoff skipped")
				}
			case err != nil:
				return err
			default:
				f.set.Add(c, f.clock())
			}
			// Inside a snapshot, no id marks a position to resume from.
			if e.ID != "" && (ready || resumed) {
				f.lastID = e.ID
			}
		case cutoff.EventReset:
			ready, resumed, f.lastID = false, false, ""
			f.log.LogAttrs(ctx, slog.LevelInfo, "revocation feed reset, loading snapshot")
		case cutoff.EventReady:
			if !ready {
				f.log.LogAttrs(ctx, slog.LevelInfo, "revocation feed up to date", slog.Int("cutoffs", f.set.Len()))
			}
			ready, f.lastID = true, e.ID
			r, err := cutoff.ParseReady(e.Data)
			if err != nil {
				return err
			}
			f.recordKeyScope(ctx, &keyScope{pinned: r.App, apps: r.Apps})
			if err := f.recordHeartbeat(r.Heartbeat); err != nil {
				return err
			}
		case cutoff.EventHeartbeat:
			if !ready {
				continue // the snapshot is not complete
			}
			h, err := cutoff.ParseHeartbeat(e.Data)
			if err != nil {
				return err
			}
			if e.ID != "" {
				f.lastID = e.ID // the service left out cutoffs up to this id that are not for us
			}
			if err := f.recordHeartbeat(h); err != nil {
				return err
			}
		}
	}
}

// keyScope is the scope of the service key, as the service reports it.
type keyScope struct {
	pinned string   // the app to which it is pinned, or ""
	apps   []string // the apps to which it is restricted; empty means all
}

// covers reports whether the feed includes the revocations of the app.
func (k *keyScope) covers(app string) bool { return len(k.apps) == 0 || slices.Contains(k.apps, app) }

// recordKeyScope stores the scope of the service key.
func (f *feed) recordKeyScope(ctx context.Context, key *keyScope) {
	old := f.keyScope.Swap(key)
	if f.needsPin {
		switch {
		case key.pinned == "":
			f.log.LogAttrs(ctx, slog.LevelError, "service key has no pin, refusing all tokens", slog.Any("error", errNoApp))
		case old == nil || old.pinned != key.pinned:
			f.log.LogAttrs(ctx, slog.LevelInfo, "service key pin loaded, accepting tokens of its app", slog.String("app", key.pinned))
		}
	}
	for _, app := range f.apps {
		if !key.covers(app) {
			f.log.LogAttrs(ctx, slog.LevelError, "app in Config.Apps not covered by the service key, refusing its tokens", slog.String("app", app))
		}
	}
}

// recordHeartbeat stores a heartbeat, and prunes the cutoffs from time to time.
func (f *feed) recordHeartbeat(h cutoff.Heartbeat) error {
	now := f.clock()
	k := &knowledge{age: milliseconds(h.AgeMS), sent: h.Now, received: now, maxStaleness: f.maxStaleness}
	if announced := milliseconds(h.MaxStalenessMS); announced > 0 {
		k.maxStaleness = min(k.maxStaleness, announced)
	}
	first := f.knowledge.Swap(k) == nil
	if first {
		close(f.loaded)
		f.prunedAt = now
	}
	if now.Sub(f.prunedAt) >= pruneInterval {
		f.prunedAt = now
		f.set.Prune(now)
	}
	skew := now.Sub(k.sent)
	skewed := skew > k.maxStaleness || skew < -k.maxStaleness
	if skewed && !f.skewed {
		f.log.LogAttrs(context.Background(), slog.LevelError, "clock differs from the service's, or the feed is delayed", slog.Duration("difference", skew))
	}
	f.skewed = skewed
	if k.age > k.maxStaleness {
		return errReplica // another replica may have newer data
	}
	return nil
}

// milliseconds converts n to a duration of at most a year, far below the overflow.
func milliseconds(n int64) time.Duration {
	const year = 365 * 24 * time.Hour
	return time.Duration(min(n, int64(year/time.Millisecond))) * time.Millisecond
}
