package cutoffs

import "time"

// Beat makes a heartbeat due.
func (f *Follower) Beat() { f.feed.addHeartbeat() }

// Prune forgets what is due at now.
func (f *Follower) Prune(now time.Time) {
	f.set.Prune(now)
	f.feed.prune(now)
}

// The follower's figures.
const (
	ChunkSize    = chunkSize
	ChunkEntries = chunkEntries
	PageSize     = pageSize
	AskTimeout   = askTimeout
	PollInterval = pollInterval
	RelistenLate = maxRelistenPause
)
