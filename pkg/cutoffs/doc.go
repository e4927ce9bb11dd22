// Package cutoffs is what one replica knows of the revocations: the live ones
// in memory, as of a moment that it can tell.
//
// It owns following the database ([Follower]), the age of what it knows, how far
// this machine's clock is off the database's, and handing on in order what concerns
// each subscriber ([Subscription]) and those who poll ([Follower.Page]). It does not own writing cutoffs (each store method
// that revokes writes its own, in the same transaction), the hit rule and the
// wire format (pkg/bearer/cutoff), or HTTP (api/gate).
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
// restore it is another one, and the follower loads everything anew. What it
// knew before it keeps, and goes on telling new subscribers: a revocation is
// never taken back, not even by a database that forgot it.
//
// # Time and place
//
// Every question also brings the database's clock, and so [Follower.Now] tells the
// time by which stores are called, the same for all replicas. Between questions the
// monotonic clock goes on with it, so setting this machine's clock moves nothing. A
// cutoff is forgotten when it has expired by both clocks. [Follower.Check] says why
// nothing should be granted: this machine's clock is more than 2 s off, or has not been
// compared lately. When the database becomes another one, or its clock is set, ages of
// what it keeps are not what they were; [Follower.MovedWithin] says so for as long as
// that may matter.
//
// A question also brings the id of the deployment: of the database of another one
// nothing is learnt, and [Follower.Check] says so until the right one is back.
//
// # Failure
//
// While the database does not answer, what is known stays good and its age
// grows; whoever validates decides by the age. A subscriber is a position in
// what all of them share, so a slow one costs nothing here; whoever writes to
// it decides how slow is too slow. It comes back and resumes.
package cutoffs
