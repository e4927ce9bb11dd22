package bearertest

import (
	"crypto"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/yufu-auth/yufu/pkg/bearer/cutoff"
)

// heartbeat is the time between two heartbeats when nothing else happens.
const heartbeat = time.Second

// find implements [bearer.Local].Keys.
func (s *Server) find(kid string) (crypto.PublicKey, string, bool) {
	if kid == "" {
		return nil, "", false
	}
	k, ok := s.signer(kid)
	if !ok {
		return nil, "", false
	}
	return &k.key.PublicKey, "ES256", true
}

// signer returns the key with this kid, or for "" the one that signs now.
func (s *Server) signer(kid string) (signingKey, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.keys) - 1; i >= 0; i-- {
		if kid == "" || s.keys[i].kid == kid {
			return s.keys[i], true
		}
	}
	return signingKey{}, false
}

// serveFeed answers as the service does, but only with server-sent events.
func (s *Server) serveFeed(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+ServiceKey {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if !strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		w.WriteHeader(http.StatusNotAcceptable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")

	s.mu.Lock()
	hangUp := s.hangUp
	s.mu.Unlock()
	c := &connection{s: s, kinds: map[cutoff.Kind]bool{}}
	for _, k := range cutoff.ParseKinds(r.URL.Query().Get(cutoff.QueryKinds)) {
		c.kinds[k] = true
	}
	c.begin(r.Header.Get("Last-Event-ID"))
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	for {
		events, changed := c.next()
		if _, err := w.Write(events); err != nil {
			return
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-hangUp:
			return
		case <-c.s.closed:
			return
		case <-changed:
		case <-ticker.C:
		}
	}
}

// connection is the position of one follower of the feed.
type connection struct {
	s        *Server
	timeline string
	sent     int // the number of log entries sent
	ready    bool
	kinds    map[cutoff.Kind]bool // the named kinds, without the base kinds
}

// begin determines where a connection resumes.
func (c *connection) begin(lastID string) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	timeline, n, _ := strings.Cut(lastID, ".")
	sent, err := strconv.Atoi(n)
	if err == nil && timeline == c.s.timeline && sent >= 0 && sent <= len(c.s.log) {
		c.timeline, c.sent = timeline, sent
	} else if lastID != "" {
		c.timeline = "none" // next sends reset
	}
}

// next returns the events that are due, including a heartbeat, and a channel that is
// closed when there are more.
func (c *connection) next() (events []byte, changed <-chan struct{}) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	id := func(n int) string { return fmt.Sprintf("%s.%d", s.timeline, n) }
	now := cutoff.NewHeartbeat(s.age, time.Now(), MaxStaleness)

	if c.timeline != s.timeline {
		if c.timeline != "" {
			events = cutoff.AppendEvent(events, cutoff.Reset())
		}
		for _, one := range s.cutoffs.All() {
			events = cutoff.AppendEvent(events, one.Event(""))
		}
		c.timeline, c.sent, c.ready = s.timeline, len(s.log), false
	}
	for ; c.sent < len(s.log); c.sent++ {
		one := s.log[c.sent]
		if c.kinds[one.coveredBy] || (!one.Kind.Base() && !c.kinds[one.Kind]) {
			continue
		}
		events = cutoff.AppendEvent(events, one.Event(id(c.sent+1)))
	}
	if !c.ready {
		c.ready = true
		return cutoff.AppendEvent(events, now.Ready(id(c.sent), s.pinned, s.apps...)), s.changed
	}
	return cutoff.AppendEvent(events, now.Event()), s.changed
}
