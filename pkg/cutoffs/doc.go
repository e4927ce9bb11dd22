// Package cutoffs is what one replica knows of the revocations: the live ones
// in memory, as of a moment that it can tell.
//
// It owns following the database ([Follower]), the age of what it knows, how far
// this machine's clock is off the database's, and handing on in order what concerns
// each subscriber ([Subscription]) and each client that polls ([Follower.Page]). It
// does not own writing cutoffs (each store method that revokes writes its own, in the
// same transaction), the hit rule and the wire format (pkg/bearer/cutoff), or HTTP
// (api/gate).
//
// # How nothing is missed
//
// Ids appear in commit order, so "everything after the last id I saw" never
// skips one. A notification only says when to ask; the question is asked once a
// second without it too, and the age counts from the start of the last question
// that was answered. An answer proves that no other server had taken over before
// that, as far as the store can tell, so a replica at a primary that was replaced is
// not fresh. Ids mean something within one timeline, a
// name for the history of the database: after a restart, a fail-over or a
// restore it is another one, and the follower loads everything again. It keeps
// what it knew before and goes on telling new subscribers: a revocation is never
// taken back, not even by a database that forgot it.
//
// # Time
//
// Every answer also has the time by the database's clock. From it [Follower.Now]
// estimates the time that stores are called with, which is the same for all replicas.
// Between questions it advances by the monotonic clock, so setting this machine's
// clock does not change it. A cutoff is forgotten when it has expired by both clocks.
//
// [Follower.Check] returns an error while no tokens should be issued: this machine's
// clock is more than 2 s off the database's, or has not been compared lately. When the
// database becomes another one, or its clock is set, the ages of its rows are
// uncertain. [Follower.HistoryChangedWithin] reports that.
//
// # Deployment
//
// Every answer also has the id of the deployment. The follower takes nothing from the
// database of another deployment, and [Follower.Check] returns an error until the
// right one is back.
//
// # Failure
//
// While the database does not answer, what is known stays good and its age
// grows; whoever validates decides by the age. A subscriber is a position in
// what all of them share, so a slow one costs nothing here; whoever writes to
// it decides how slow is too slow. It comes back and resumes.
package cutoffs
