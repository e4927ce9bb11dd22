package cutoffs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
)

const (
	// pollInterval is the time between two queries when no notification comes.
	pollInterval = time.Second
	// askTimeout bounds a query. A database that takes longer counts as away, and the
	// age shows it.
	askTimeout = 3 * time.Second
	// awayAfter is the duration of a query after which the database counts as away.
	awayAfter = time.Second
	// pageSize is the maximum number of cutoffs in one query. Each query is a commit, so
	// a start should take few.
	pageSize = 10_000
	// heartbeatInterval is the time between two heartbeats to subscribers, with room
	// for a slow machine.
	heartbeatInterval = cutoff.HeartbeatInterval * 3 / 5
	// pruneInterval is the time between two removals of expired cutoffs.
	pruneInterval = time.Minute
	// minRelistenPause and maxRelistenPause bound the pause before listening again.
	minRelistenPause = 100 * time.Millisecond
	maxRelistenPause = 5 * time.Second
	// maxRestarts bounds how often one catch-up starts over.
	maxRestarts = 3
)

// Config configures a [Follower]. Store, MaxStaleness, Clock and Log are required.
type Config struct {
	Store Store
	// MaxStaleness is the maximum age of the data; validators refuse tokens when their
	// data is older.
	MaxStaleness time.Duration
	// Clock is this machine's, with its monotonic reading: time.Now.
	Clock func() time.Time
	// Wall returns the wall clock time of a reading of Clock. The default is the wall
	// clock reading in it. Tests that set the clock pass their own function, because Go
	// cannot make a time with two readings.
	Wall func(t time.Time) time.Time
	Log  *slog.Logger
	// OnKeysChange and OnAppsChange, if not nil, are called when an answer of the database
	// says that the keys or the apps have changed, see [Batch]. They must not block.
	OnKeysChange, OnAppsChange func()
	// OnTimelineChange, if it is not nil, is called when the database's timeline has
	// changed (restart, fail-over, restore), after everything was loaded again. The
	// cutoffs that were known before are still in the set.
	OnTimelineChange func()
	// Kinds are the kinds of cutoffs beyond the base kinds that this service knows.
	// There are no such kinds yet. A row of an unknown kind comes from a newer replica.
	// It is skipped, because base cutoffs of the same transaction have the same effect.
	Kinds []auth.CutoffKind
}

// Follower follows the cutoffs of a database. It is safe for concurrent use.
type Follower struct {
	c    Config
	set  *cutoff.Set
	feed feed
	// clock is the database's.
	clock clock
	// deployment is that of the first database that answered.
	deployment atomic.Pointer[uuid.UUID]
	// deploymentErr says that the database belongs to another deployment, or is nil.
	deploymentErr atomic.Pointer[error]
	// timelineChangedAt is when the database's timeline changed or its clock was set; nil
	// while neither has happened.
	timelineChangedAt atomic.Pointer[time.Time]
	// askLock is held during a query.
	askLock chan struct{}

	mu sync.Mutex
	// started counts the queries. finished is the number of the last query that ended,
	// and lastErr its error.
	started, finished int64
	lastErr           error
	// startedAt is when the last query began, and answer that of the last one that was
	// answered.
	startedAt time.Time
	answer    Answer
}

// Answer is what the database answered to a query about other data than cutoffs.
type Answer struct {
	// Asked is when the query began.
	Asked time.Time
	// Keys and Apps are those of [Batch].
	Keys, Apps string
}

// Open returns a follower that has loaded everything, or an error when the
// database does not answer. [Follower.Run] keeps it up to date.
func Open(ctx context.Context, c Config) (*Follower, error) {
	f := &Follower{c: c, set: cutoff.NewSet(), askLock: make(chan struct{}, 1)}
	f.feed.changed = make(chan struct{})
	f.clock.local, f.clock.wall = c.Clock, c.Wall
	if c.Wall == nil {
		f.clock.wall = wallReading
	}
	if err := f.CatchUp(ctx); err != nil {
		return nil, fmt.Errorf("cutoffs: load: %w", err)
	}
	return f, nil
}

// Set returns the live cutoffs, for a verifier.
func (f *Follower) Set() *cutoff.Set { return f.set }

// EventID returns the event id of a cutoff in the feed.
func (f *Follower) EventID(id int64) string { return eventID(f.feed.current().timeline, id) }

// MaxStaleness returns [Config.MaxStaleness].
func (f *Follower) MaxStaleness() time.Duration { return f.c.MaxStaleness }

// Age returns the age of the data: the time since the start of the last query that was
// answered. It is never negative.
func (f *Follower) Age() time.Duration {
	now := f.feed.current()
	return now.age(f.c.Clock())
}

// Now returns the time by the database's clock, in UTC, as this replica estimates it.
// It has no monotonic reading.
func (f *Follower) Now() time.Time { return f.clock.now() }

// Latest returns the time to use for the expiry of tokens and keys. It is
// [Follower.Now], but does not go back when only the database's clock is set back.
func (f *Follower) Latest() time.Time { return f.clock.latest() }

// ClockAhead returns how far this machine's clock is ahead of the database's. It is
// negative for a clock that is behind.
func (f *Follower) ClockAhead() time.Duration { return f.clock.ahead() }

// Check returns [auth.StorageUnavailable] with the reason while this replica should
// issue no tokens: its clock is more than 2 s off the database's or has not been
// compared for [Config.MaxStaleness], or the database belongs to another deployment.
func (f *Follower) Check() error {
	err := f.clock.check(f.c.MaxStaleness)
	if foreign := f.deploymentErr.Load(); foreign != nil {
		err = *foreign
	}
	if err == nil {
		return nil
	}
	return &auth.Error{Code: auth.StorageUnavailable, Err: err}
}

// TimelineChangedWithin reports whether the database's timeline changed or its clock was
// set within the last d. It also returns true if the last query failed, because the
// timeline may have changed since.
func (f *Follower) TimelineChangedWithin(d time.Duration) bool {
	if at := f.timelineChangedAt.Load(); at != nil && f.c.Clock().Sub(*at) <= d {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lastErr != nil
}

// LastAnswer returns the last answer of the database, and the error of the last query if
// that failed.
func (f *Follower) LastAnswer() (Answer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.answer, f.lastErr
}

// Answering reports whether the database answers: false if the last query failed, or has
// waited for more than a second.
func (f *Follower) Answering() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lastErr == nil && (f.finished == f.started || f.c.Clock().Sub(f.startedAt) <= awayAfter)
}

// Deployment returns the id of the deployment that this replica belongs to.
func (f *Follower) Deployment() uuid.UUID { return *f.deployment.Load() }

// Run follows the database until ctx is done, and then ends all subscriptions. Call it
// once.
func (f *Follower) Run(ctx context.Context) {
	var owned sync.WaitGroup
	wake := make(chan struct{}, 1)
	owned.Go(func() { f.listen(ctx, wake) })
	owned.Go(func() { f.keepTime(ctx) })
	f.poll(ctx, wake)
	f.feed.close()
	owned.Wait()
}

// poll queries once a second, and after each wake.
func (f *Follower) poll(ctx context.Context, wake <-chan struct{}) {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-tick.C:
		}
		err := f.CatchUp(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && failing:
			f.c.Log.Info("cutoff refresh recovered")
		case err != nil && !failing:
			f.c.Log.Warn("cutoff refresh failed; validators' revocation data is aging", "cause", err, "age", f.Age().String())
		}
		failing = err != nil
	}
}

// keepTime adds heartbeats and removes expired cutoffs, even while the database is away.
func (f *Follower) keepTime(ctx context.Context) {
	beat := time.NewTicker(heartbeatInterval)
	defer beat.Stop()
	prune := time.NewTicker(pruneInterval)
	defer prune.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			f.feed.addHeartbeat()
		case <-prune.C:
			f.set.Prune(f.c.Clock()) // by the times at which they were added
			f.feed.prune(f.earliest())
		}
	}
}

// listen listens for notifications, again after each lost connection, and wakes poll.
func (f *Follower) listen(ctx context.Context, wake chan<- struct{}) {
	pause := minRelistenPause
	for {
		began := f.c.Clock()
		err := f.c.Store.Listen(ctx, func() {
			select {
			case wake <- struct{}{}:
			default:
			}
		})
		if ctx.Err() != nil {
			return
		}
		if f.c.Clock().Sub(began) > maxRelistenPause {
			pause = minRelistenPause
		}
		f.c.Log.Debug("notification connection ended, polling every second", "cause", err)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		pause = min(2*pause, maxRelistenPause)
	}
}

// CatchUp reads new cutoffs, and returns when everything that was committed before the
// call has been applied. A replica calls it after a revocation and before it answers.
// Concurrent calls share a query.
//
// Errors: [auth.StorageUnavailable], or the context's.
func (f *Follower) CatchUp(ctx context.Context) error {
	// A running query may have started before the caller's commit; the next one
	// starts after it.
	f.mu.Lock()
	enough := f.started + 1
	f.mu.Unlock()
	select {
	case f.askLock <- struct{}{}:
		defer func() { <-f.askLock }()
	case <-ctx.Done():
		return ctx.Err()
	}
	f.mu.Lock()
	if f.finished >= enough {
		defer f.mu.Unlock()
		return f.lastErr
	}
	f.started++
	question := f.started
	f.startedAt = f.c.Clock()
	f.mu.Unlock()
	err := f.loadNew(ctx)
	if err != nil && ctx.Err() != nil {
		return ctx.Err() // not the outcome of the calls that wait
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.finished, f.lastErr = question, err
	return err
}

// errUnstableTimeline means that each answer named another timeline.
var errUnstableTimeline = errors.New("cutoffs: the database timeline changed in each attempt to load the cutoffs")

// loadNew reads pages until there is nothing new. The caller holds askLock.
func (f *Follower) loadNew(ctx context.Context) error {
	began := f.feed.current()
	before, last := began.timeline, began.last
	// A new timeline is loaded completely before subscribers get any of it. Otherwise
	// the stated age would be wrong for the missing part.
	timeline, restarted := before, before == ""
	var all [][]entry
	page := f.query(ctx, last)
	for restarts := 0; ; {
		if page.err != nil {
			return page.err
		}
		if timeline == "" {
			timeline = page.Timeline
		}
		if page.Timeline != timeline || page.Last < last {
			if restarts++; restarts > maxRestarts {
				return &auth.Error{Code: auth.StorageUnavailable, Err: errUnstableTimeline}
			}
			timeline, last, restarted, all = page.Timeline, 0, true, nil
			page = f.query(ctx, last)
			continue
		}
		complete := len(page.Cutoffs) < pageSize
		if n := len(page.Cutoffs); n > 0 {
			last = page.Cutoffs[n-1].ID
		}
		// The next page is on its way while this one is added.
		var next chan answer
		if !complete {
			next = make(chan answer, 1)
			go func() { next <- f.query(ctx, last) }()
		}
		// Verifiers of this process get them before any subscriber.
		fresh := f.addToSet(page.Cutoffs, page.asked)
		switch {
		case restarted && complete:
			f.feed.replace(timeline, slices.Concat(append(all, fresh)...), last, page.asked)
			f.noticeTimeline(before, timeline)
		case restarted:
			all = append(all, fresh)
		case complete:
			f.feed.append(fresh, last, page.asked)
		default:
			f.feed.append(fresh, last, time.Time{})
		}
		if complete {
			f.notice(Answer{Asked: page.asked, Keys: page.Keys, Apps: page.Apps})
			return nil
		}
		page = <-next
	}
}

// noticeTimeline tells of a new timeline, unless it is the first one.
func (f *Follower) noticeTimeline(before, now string) {
	if before == "" {
		return
	}
	f.c.Log.Warn("database timeline changed (restart, fail-over or restore), all cutoffs loaded again",
		"was", before, "is", now)
	if f.c.OnTimelineChange != nil {
		f.c.OnTimelineChange()
	}
}

// notice records an answer, and calls the functions of [Config] for what has changed.
func (f *Follower) notice(a Answer) {
	f.mu.Lock()
	before := f.answer
	f.answer = a
	f.mu.Unlock()
	if before.Asked.IsZero() {
		return // of Open
	}
	if before.Keys != a.Keys && f.c.OnKeysChange != nil {
		f.c.OnKeysChange()
	}
	if before.Apps != a.Apps && f.c.OnAppsChange != nil {
		f.c.OnAppsChange()
	}
}

// answer is one page of cutoffs, or the error of its query.
type answer struct {
	Batch

	asked time.Time // when the query began
	err   error
}

// query reads one page.
func (f *Follower) query(ctx context.Context, after int64) answer {
	bounded, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	asked := f.c.Clock()
	b, err := f.c.Store.Cutoffs(bounded, after, pageSize)
	if err != nil && ctx.Err() == nil && bounded.Err() != nil {
		err = &auth.Error{Code: auth.StorageUnavailable, Err: fmt.Errorf("cutoffs: no answer within %v: %w", askTimeout, err)}
	}
	if err != nil {
		return answer{err: err}
	}
	if err := f.checkDeployment(b.Deployment); err != nil {
		return answer{err: &auth.Error{Code: auth.StorageUnavailable, Err: err}}
	}
	answered := f.c.Clock()
	timeline := f.feed.current().timeline
	set := f.clock.wasSet(asked, b.Now, answered)
	if set || timeline != "" && (b.Timeline != timeline || b.Last < after) {
		f.timelineChangedAt.Store(&answered) // before Now uses the other clock
	}
	f.clock.compare(asked, b.Now, answered)
	if set {
		f.c.Log.Warn("database clock changed, or this machine slept", "own_clock_ahead", f.ClockAhead().String())
	}
	return answer{Batch: b, asked: asked}
}

// checkDeployment returns an error unless the database belongs to the deployment that
// answered first. The ids and apps of another deployment mean other things.
func (f *Follower) checkDeployment(id uuid.UUID) error {
	if f.deployment.CompareAndSwap(nil, &id) || *f.deployment.Load() == id {
		f.deploymentErr.Store(nil)
		return nil
	}
	err := fmt.Errorf("the database belongs to another deployment (%s) than this replica (%s): correct the database's name or address, or restart the replica if it should belong there", id, f.Deployment())
	f.deploymentErr.Store(&err)
	return err
}

// earliest returns the earlier of this machine's time and the database's, so that a
// clock that is ahead lets no cutoff expire too early.
func (f *Follower) earliest() time.Time {
	database, wall := f.clock.readings()
	if database.Before(wall) {
		return database
	}
	return wall
}

// addToSet adds cutoffs to the set, and returns those that have not expired.
func (f *Follower) addToSet(list []auth.Cutoff, asked time.Time) []entry {
	live, now := make([]entry, 0, len(list)), f.earliest()
	for i := range list {
		c := &list[i]
		if !cutoff.Kind(c.Kind).Base() && !slices.Contains(f.c.Kinds, c.Kind) {
			continue
		}
		if !slices.Contains(f.c.Kinds, c.CoveredBy) {
			c.CoveredBy = "" // no subscriber gets the covering cutoff
		}
		if !c.ExpiresAt.IsZero() && !c.ExpiresAt.After(now) {
			continue
		}
		if c.Kind == auth.CutoffSession {
			f.set.AddSession(c.Session, c.Ver, asked)
		} else {
			f.set.Add(Wire(*c), asked)
		}
		live = append(live, entryOf(c))
	}
	return live
}

// Wire returns a cutoff in the form that validators get.
func Wire(c auth.Cutoff) cutoff.Cutoff {
	w := cutoff.Cutoff{Kind: cutoff.Kind(c.Kind)}
	switch c.Kind {
	case auth.CutoffSession:
		w.Session, w.Ver = c.Session.String(), c.Ver
	case auth.CutoffApp:
		w.App, w.Epoch = c.AppID, c.Epoch
	case auth.CutoffKey:
		w.KID = c.KID
	}
	return w
}
