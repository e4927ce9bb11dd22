// Package cutoff owns revocations as validators see them: what a cutoff is, the
// set of those that are live, the rule by which one hits a token, and the
// format of the feed that carries them. The service and package bearer share
// it, so that there is one rule.
//
// It does not own the connection (package bearer follows the feed, the service
// serves it), nor where cutoffs are kept.
//
// # Cutoffs
//
// A cutoff says that the tokens of a session below a version (or all of them),
// the tokens of an app below an epoch, or the tokens signed by a key are dead.
// It compares integers and names, never clocks. Cutoffs only ever add up: a
// [Set] is their union, whatever their order and however often they come.
//
// # The feed
//
// GET /v1/revocations with Accept: text/event-stream, a stream of events as the
// HTML standard defines them. Every event has data, one JSON object:
//
//	event: cutoff      a Cutoff; with an id, except in a snapshot
//	event: ready       a Ready; with an id
//	event: heartbeat   a Heartbeat; with an id after cutoffs that were left out
//	event: reset       {}; no id
//
// A connection without Last-Event-ID begins with the snapshot: every live
// cutoff, then ready. A connection with one begins with the cutoffs that were
// committed after it, then ready; or, when the server cannot tell which those
// are, with reset, the snapshot and ready. After ready come the cutoffs as they
// are committed, and a heartbeat at least every [HeartbeatInterval].
//
// A service key that is restricted to apps is told of these apps, of their
// sessions, and of keys. Ready names the apps: a validator refuses the tokens
// of others, as it does not hear of their revocations. The id of a heartbeat
// stands behind what was left out: a connection resumes there.
//
// Thus ready comes on every connection, once, and says that everything up to
// its id has been sent. A heartbeat says: everything that was committed until
// age_ms before now stands above me in this stream. Neither it nor ready may
// be sent earlier, so none comes inside a snapshot. A reset may also come
// later, with a snapshot and ready behind it.
//
// Whoever follows the feed keeps the union over all snapshots: a reset takes no
// cutoff away. Events with other names are to be skipped.
//
// # Kinds
//
// A validator names the kinds of cutoffs that it knows: ?kinds=session,app,key. These
// three are the base kinds, and they are always sent. A kind that a later service adds
// is a shorter way to say base cutoffs that the same transaction made true. A validator
// that names the kind gets the short form, and one that does not gets the base
// cutoffs. Names that the service does not know are ignored. A cutoff of a kind that a
// validator does not know is to be skipped: it is told in base kinds too.
//
// Ids are opaque: "<timeline>.<n>". With Accept: application/json and ?after=ID
// the same is answered as one [Page].
package cutoff
