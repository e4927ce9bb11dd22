package cutoffs

import "time"

// Beat makes a heartbeat due.
func (f *Follower) Beat() { f.feed.addHeartbeat() }

// Close ends all subscriptions.
func (f *Follower) Close() { f.feed.close() }

// Prune removes the cutoffs that have expired at now.
func (f *Follower) Prune(now time.Time) {
	f.set.Prune(now)
	f.feed.prune(now)
}

// The follower's constants.
const (
	ChunkSize    = chunkSize
	ChunkEntries = chunkEntries
	PageSize     = pageSize
	AskTimeout   = askTimeout
	PollInterval = pollInterval
	RelistenLate = maxRelistenPause
)
