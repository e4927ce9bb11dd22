// Package sqlite implements [db.Store] in one SQLite file, for development and for
// small installations.
//
// It owns the schema (migrations/), the SQL and the file's settings. It does not
// own what a change means: [session.Judge] decides on a refresh token,
// [binding.BindParams.Decide] on a binding, and the caller supplies the audit
// events. The suite in db/storetest tests the contract. No transaction handle
// leaves the package.
//
// # Transactions
//
// The file is in WAL mode with synchronous=FULL, so a committed result survives a
// kill and a power cut. Writes go through one connection, each in a BEGIN IMMEDIATE
// transaction. So there is one writer at a time, in this process and across
// processes; a second process (`yufu app add` beside a running server) waits its
// turn. Reads have connections of their own and never wait. A commit that wrote a
// cutoff wakes the followers in this process. They find commits of other processes
// when they poll.
//
// One process serves from a file: [Store.Claim] takes a lock that ends with the
// process. Commands that run beside it take no claim.
//
// # Files
//
// There are two files beside the database and SQLite's own journals. NAME-lock is an
// empty database that holds the claim. NAME-noted holds a random text, which is also
// in the database, and the greatest cutoff id that the process with the claim has
// seen. A copy that replaces the database has another text or fewer cutoffs, see
// [Store.RecordedHistory]. Move NAME-noted together with the database.
//
// # Failure
//
// A file that is locked for too long, full, unreadable or read-only is
// [auth.StorageUnavailable]. If the caller's context is done, the error is the
// context's. Every other error is a defect.
package sqlite
