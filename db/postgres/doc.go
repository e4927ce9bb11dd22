// Package postgres keeps everything in PostgreSQL 14 or newer, over pgx.
//
// It owns the schema (migrations/), the SQL, and the order in which rows are
// locked. It does not own what a change means: the verdict over a refresh token
// is [session.Judge], that over a binding [binding.BindParams.Decide], what an
// event says is the caller's. It keeps [db.Store], and the suite in db/storetest
// holds it to that. No transaction handle leaves the package.
//
// # Transactions
//
// All of it runs at READ COMMITTED. The exchange is one round trip of two
// statements: the write of the identity, and what begins after the wait for its
// lock and so sees what the lock's last holder left. Only when the identity has
// too many sessions does another transaction follow. A refresh is one UPDATE of
// one row; after waiting for a row lock PostgreSQL reads again only the row
// being updated, so a refresh takes nothing that changes together with a
// session's ver from anywhere but that row. Paths that end a session, or change
// whose it is, lock the person if there is one to lock, then the identities, each
// in a statement of its own, then the sessions, and take the ids of their cutoffs
// last, under one advisory lock that is held until the commit: cutoff ids appear
// in commit order. The commit notifies those who listen; nothing else does.
//
// # Durability
//
// A method that returns nil has answered for something durable, also where it
// changed nothing: with synchronous replication a commit whose wait for the
// standby was interrupted is there to be found, and may be lost. Every
// transaction therefore writes a mark in the round trip of its commit, and a
// replayed refresh, which is found without one, commits the mark alone. The wait
// of such a commit covers all commits before it. A commit whose wait was
// cancelled on the server succeeds with a warning; it is an error here.
//
// # Freshness
//
// A question for cutoffs writes the mark, too. Its commit ends only when the
// synchronous standby confirms it, which one that was promoted does not: an answer
// proves that no other primary had committed anything before the question began.
// This holds where only the standby that confirms can take over. Without synchronous
// replication the old primary must be fenced off.
//
// While the question is asked, a connection of the pool names the history that it
// leads to. If that is not the follower's, the answer is an error and all connections
// are made again. A new connection does the same where it leads to another history
// than the one before, and is refused where it leads to another deployment. A pool
// that is busy contradicts nothing.
//
// # Connections
//
// Writes hold three quarters of the pool at most. While the standby is silent
// they all wait, each as long as its context lets it, and reads go on.
//
// Besides the pool there are two connections for followers: one listens, one
// asks for cutoffs. What validators know must not grow old because the pool is
// busy, or because a network swallows what the pool's connections say.
//
// When the server has no connection left, a call waits for one of the pool that
// is given back, and followers use the pool.
//
// Every connection pins the settings on which the meaning of the statements
// depends and refuses those that it cannot pin, see [SettingError]. A pooler in
// session mode works; [Store.CheckPooling] finds one in transaction mode.
//
// # Failure
//
// A database that does not answer, shuts down, refuses connections, is
// read-only or runs out of resources is [auth.StorageUnavailable], and so is a
// deadlock or a time-out on its side. A caller's context that is done is that
// context's error. Every other error is a defect; its text names the method and
// the SQLSTATE and never a value.
package postgres
