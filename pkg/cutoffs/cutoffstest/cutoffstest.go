// Package cutoffstest provides a database of cutoffs in memory, for tests of followers.
// It simulates commits, silence, errors, and changes of the database's timeline. It
// fulfils [cutoffs.Store] as the real stores do, but has no other table.
package cutoffstest

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/yufu-auth/yufu/pkg/auth"
	"github.com/yufu-auth/yufu/pkg/cutoffs"
)

var _ cutoffs.Store = (*Store)(nil)

// Store is the database. Make one with [New]; it is safe for concurrent use.
type Store struct {
	// Clock is the database's clock. Default time.Now.
	Clock func() time.Time

	mu         sync.Mutex
	deployment uuid.UUID
	timelines  int
	timeline   string
	last       int64
	rows       []auth.Cutoff
	err        error
	deaf       bool
	stalled    chan struct{} // nil: queries are answered at once
	lost       chan struct{} // closed when listeners lose their connection
	wakes      map[*func()]struct{}
	questions  int
	keys, apps string
}

// New returns an empty database.
func New() *Store {
	s := &Store{Clock: time.Now, deployment: uuid.New(), wakes: map[*func()]struct{}{}, lost: make(chan struct{})}
	s.begin()
	return s
}

// begin begins a new timeline. The lock is held, or not needed.
func (s *Store) begin() {
	s.timelines++
	s.timeline = fmt.Sprintf("t%d", s.timelines)
}

// Commit writes cutoffs, gives them ids, and wakes the listeners.
func (s *Store) Commit(list ...auth.Cutoff) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range list {
		s.last++
		c.ID = s.last
		s.rows = append(s.rows, c)
	}
	if s.deaf {
		return
	}
	for wake := range s.wakes {
		(*wake)()
	}
}

// Restore restores a dump: it begins a new timeline with exactly these cutoffs, and
// continues to count ids after them.
func (s *Store) Restore(list ...auth.Cutoff) {
	s.mu.Lock()
	s.begin()
	s.rows, s.last = nil, 0
	s.mu.Unlock()
	s.Commit(list...)
}

// Replace replaces the database with that of another deployment, which has exactly these
// cutoffs. It returns a function that brings the first one back.
func (s *Store) Replace(list ...auth.Cutoff) (back func()) {
	s.mu.Lock()
	deployment, timeline, rows, last := s.deployment, s.timeline, s.rows, s.last
	s.deployment = uuid.New()
	s.mu.Unlock()
	s.Restore(list...)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.deployment, s.timeline, s.rows, s.last = deployment, timeline, rows, last
	}
}

// RollBack removes all cutoffs except the first n, together with their ids. The name of
// the timeline does not change.
func (s *Store) RollBack(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows = s.rows[:n]
	s.last = int64(n)
}

// Prune deletes the cutoffs up to the id, as the janitor does.
func (s *Store) Prune(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows = slices.DeleteFunc(s.rows, func(c auth.Cutoff) bool { return c.ID <= id })
}

// Fail makes every query fail with err; nil ends that.
func (s *Store) Fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// Mute makes commits wake no follower, as if a proxy dropped the notifications.
func (s *Store) Mute(deaf bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deaf = deaf
}

// Stall delays the answers to queries until the returned function is called. The answers
// have the data of the time of the query.
func (s *Store) Stall() (resume func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stalled := make(chan struct{})
	s.stalled = stalled
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.stalled == stalled {
			s.stalled = nil
		}
		close(stalled)
	}
}

// Disconnect ends all listening.
func (s *Store) Disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.lost)
	s.lost = make(chan struct{})
}

// Questions returns the number of queries.
func (s *Store) Questions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.questions
}

// Change sets the names of the states of the keys and the apps, and wakes the listeners.
func (s *Store) Change(keys, apps string) {
	s.mu.Lock()
	s.keys, s.apps = keys, apps
	s.mu.Unlock()
	s.Commit()
}

// Listeners returns the number of calls of Listen that are running.
func (s *Store) Listeners() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.wakes)
}

// Cutoffs implements [cutoffs.Store]. It answers with the data of the time of the call,
// even if it was stalled since.
func (s *Store) Cutoffs(ctx context.Context, after int64, limit int) (cutoffs.Batch, error) {
	s.mu.Lock()
	s.questions++
	stalled, err := s.stalled, s.err
	b := cutoffs.Batch{Timeline: s.timeline, Deployment: s.deployment, Now: s.Clock(), Last: s.last, Keys: s.keys, Apps: s.apps}
	first := sort.Search(len(s.rows), func(i int) bool { return s.rows[i].ID > after })
	b.Cutoffs = append(b.Cutoffs, s.rows[first:min(first+limit, len(s.rows))]...)
	s.mu.Unlock()
	if stalled != nil {
		select {
		case <-stalled:
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		return cutoffs.Batch{}, ctx.Err()
	}
	if err != nil {
		return cutoffs.Batch{}, err
	}
	return b, nil
}

// Listen implements [cutoffs.Store].
func (s *Store) Listen(ctx context.Context, wake func()) error {
	s.mu.Lock()
	lost := s.lost
	if s.err != nil {
		defer s.mu.Unlock()
		return s.err
	}
	s.wakes[&wake] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.wakes, &wake)
	}()
	wake()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-lost:
		return auth.StorageUnavailable
	}
}
