// Package postgres implements [db.Store] on PostgreSQL 14 or newer, with pgx.
//
// It owns the schema (migrations/), the SQL, and the order in which rows are
// locked. It does not own what a change means: [session.Judge] decides on a
// refresh token, [binding.BindParams.Decide] on a binding, and the caller
// supplies the audit events. The suite in db/storetest tests the contract. No
// transaction handle leaves the package.
//
// # Transactions
//
// All transactions run at READ COMMITTED. BEGIN is sent with the first statement and
// COMMIT with the last batch, so that they cost no round trips.
//
// An exchange is one round trip of two statements. The first writes the identity.
// The second starts after the wait for the identity's lock, so it sees what the
// last holder of the lock committed. When the identity has too many sessions, the
// form of the log-in for divided tables follows.
//
// A refresh is one UPDATE of one row. After a wait for a row lock PostgreSQL reads
// again only the row being updated. So a refresh takes everything that changes
// together with a session's ver from that row only.
//
// Paths that end a session or change its person lock rows in this order: the
// person if there is one, the identities, the sessions, each in a statement of
// its own, and the rows of a table by shard and id. A restore of cutoffs then locks the apps. These paths take the ids of
// their cutoffs last, under one advisory lock that is held until the commit. So
// cutoff ids appear in commit order. Only the commit notifies listeners.
//
// # Divided tables
//
// The tables of identities and sessions may be partitioned by shard, or distributed
// by Citus. Every statement that writes or locks known users or sessions names one
// shard. Others read all shards and lock nothing, and no statement writes to two
// kinds of tables. Only the log-in, the deletion of expired sessions and the estimate of an
// app's sessions have another form for plain tables, which is faster there; see
// [Store.isDivided].
//
// # Durability
//
// When a method returns nil, its result is durable, even if it changed nothing.
// With synchronous replication, a commit whose wait for the standby was
// interrupted is visible and may still be lost. Therefore every transaction
// writes a mark in the round trip of its commit. A replayed refresh is found
// without a transaction, so it commits only the mark. The wait of such a commit
// covers all commits before it. If the wait was cancelled on the server, the
// commit succeeds there with a warning; this package returns an error.
//
// # Freshness
//
// Reading cutoffs writes the mark, too. Its commit ends only when the synchronous
// standby confirms it. A promoted standby does not confirm, so an answer proves
// that no other primary had committed anything before the query began. This holds
// only if no other standby can take over. Without synchronous replication, the
// old primary must be fenced off.
//
// During the query, a connection of the pool names the timeline that it leads to.
// If that is not the follower's timeline, the result is an error and all
// connections are made again. A new connection has the same effect when it leads
// to another timeline than the connection before it. A new connection to another
// deployment is refused. If no connection of the pool is free, nothing is
// compared.
//
// # Connections
//
// Writes hold at most three quarters of the pool. While the standby is silent all
// writes wait, each until its context ends, and reads continue.
//
// Followers have two connections outside the pool: one listens, one reads
// cutoffs. The revocation data of validators must not grow old because the pool
// is busy, or because a network drops the packets of the pool's connections.
//
// When the server has no connection left, a call waits for a connection of the
// pool to be released, and followers use the pool.
//
// Every connection pins the settings that the meaning of the statements depends
// on, and refuses settings that it cannot pin, see [SettingError]. A pooler in
// session mode works; [Store.CheckPooling] detects transaction mode.
//
// # Failure
//
// A database that does not answer, shuts down, refuses connections, is read-only
// or runs out of resources is [auth.StorageUnavailable], as are a deadlock and a
// timeout on the server. If the caller's context is done, the error is the
// context's. Every other error is a defect; its text names the method and the
// SQLSTATE and never a value.
package postgres
