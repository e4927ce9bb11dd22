// Package cutoff owns revocations as validators see them: the cutoff, the set of live
// cutoffs, the rule by which a cutoff hits a token, and the format of the feed. The
// service and package bearer share it, so that there is one rule.
//
// It does not own the connection (package bearer follows the feed, the service serves
// it), nor the storage of cutoffs.
//
// # Cutoffs
//
// A cutoff revokes the tokens of a session below a version (or all of them), the tokens
// of an app below an epoch, or the tokens signed by a key. It compares integers and
// names, never clocks. Cutoffs only add up: a [Set] is their union, regardless of order
// and repetition.
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
// A connection without Last-Event-ID begins with the snapshot: every live cutoff, then
// ready. A connection with one begins with the cutoffs that were committed after that id,
// then ready. If the server cannot determine those, it sends reset, the snapshot and
// ready. After ready come new cutoffs as they are committed, and a heartbeat at least
// every [HeartbeatInterval].
//
// A service key that is restricted to apps gets the cutoffs of these apps, of their
// sessions, and of keys. Ready names the apps: a validator refuses the tokens of other
// apps, because it does not get their revocations. The id of a heartbeat comes after the
// cutoffs that were left out, so a connection resumes there.
//
// So ready comes once on every connection and says that everything up to its id has
// been sent. A heartbeat says that everything committed until age_ms before now precedes
// it in this stream. Neither may be sent earlier, so a snapshot contains no heartbeat. A
// reset may also come later, followed by a snapshot and ready.
//
// A follower of the feed keeps the union over all snapshots: a reset removes no cutoff.
// A follower skips events with other names.
//
// # Kinds
//
// A validator names the kinds of cutoffs that it knows: ?kinds=session,app,key. These
// three are the base kinds, and they are always sent. A kind that a later service adds is
// a shorter form of base cutoffs of the same transaction. A validator that names the kind
// gets the short form; any other validator gets the base cutoffs. The service ignores
// unknown names. A validator skips cutoffs of unknown kinds, because it gets the base
// cutoffs too.
//
// Ids are opaque: "<timeline>.<n>". With Accept: application/json and ?after=ID the
// answer is one [Page] with the same content.
//
// # Failure
//
// An event that cannot be read is [ErrMalformed] or [ErrTooLong]. A follower then ends the
// connection, reconnects and resumes after the last id, so it skips no revocation.
// While that fails, its data gets old and it refuses tokens.
package cutoff
