// Package sqlite keeps everything in one SQLite file, for development and for
// small installations.
//
// It owns the schema (migrations/), the SQL and the file's settings. It does
// not own what a change means: the verdict over a refresh token is
// [session.Judge], that over a binding [binding.BindParams.Decide], what an
// event says is the caller's. It keeps [db.Store], and the suite in db/storetest
// holds it to that. No transaction handle leaves the package.
//
// # Transactions
//
// The file is in WAL mode with synchronous=FULL: what was answered survives a
// kill and a power cut. Writes go through one connection, each in a BEGIN
// IMMEDIATE transaction, so there is one writer at a time, in this process and
// across processes; a second process (`yufu app add` beside a running server)
// waits its turn. Reads have connections of their own and never wait. Followers
// of cutoffs in this process are woken after each commit that wrote one; what
// another process commits they find when they ask.
//
// One process serves from a file: [Store.Claim] takes a lock that ends with the
// process. Commands beside it take no claim.
//
// # Files
//
// Beside the database and SQLite's own journals are two files. NAME-lock is an empty
// database that carries the claim. NAME-noted has a random text, which the database has
// too, and the greatest cutoff id that the process with the claim has seen. A copy that
// is put in the database's place has another text or fewer cutoffs, see [Store.RecordedHistory].
// NAME-noted has to be moved together with the database.
//
// # Failure
//
// A file that is locked for too long, full, unreadable or read-only is
// [auth.StorageUnavailable]. A caller's context that is done is that context's
// error. Every other error is a defect.
package sqlite
