// Package cutoffs keeps the live revocations of the database in the memory of a
// replica, together with their age.
//
// It owns following the database ([Follower]), the age of its data, the difference
// between this machine's clock and the database's, and the ordered delivery of cutoffs
// to subscribers ([Subscription]) and to clients that poll ([Follower.Page]). It
// does not own writing cutoffs (each store method that revokes writes its own, in the
// same transaction), the hit rule and the wire format (pkg/bearer/cutoff), or HTTP
// (api/gate).
//
// # Why no cutoff is missed
//
// Ids appear in commit order, so "everything after the last id I saw" never
// skips one. The follower queries once a second, and earlier after a notification. The
// age counts from the start of the last query that was answered. An answer proves that no other server had taken over before, as far as the
// store can tell, so a replica at a replaced primary is not fresh. Ids are valid within
// one timeline of the database. After a restart, a fail-over or a restore the timeline
// is another one, and the follower loads everything again. It
// keeps the cutoffs that it knew before and still sends them to new subscribers: a
// revocation is never taken back, not even if the database lost it.
//
// # Time
//
// Every answer also has the time by the database's clock. From it [Follower.Now]
// estimates the time that stores are called with, which is the same for all replicas.
// Between queries it advances by the monotonic clock, so setting this machine's
// clock does not change it. A cutoff is dropped when it has expired by both clocks.
//
// [Follower.Check] returns an error while no tokens should be issued: this machine's
// clock is more than 2 s off the database's, or has not been compared recently. When
// the database's timeline changes, or its clock is set, the ages of its rows are
// uncertain. [Follower.TimelineChangedWithin] reports that.
//
// # Deployment
//
// Every answer also has the id of the deployment. The follower takes nothing from the
// database of another deployment, and [Follower.Check] returns an error until the
// right database is back.
//
// # Bursts
//
// The first cutoff after a pause wakes the subscribers at once. During a burst they are
// woken every 10 ms, or up to 50 ms if there are thousands, because waking a connection
// costs far more than sending a few more cutoffs to it.
//
// # Failure
//
// While the database does not answer, the known cutoffs stay valid and their age
// grows; validators decide by the age. A subscription is a position in shared data, so
// a slow subscriber costs nothing here. The code that writes to it decides when to
// drop it; it can reconnect and resume.
package cutoffs
