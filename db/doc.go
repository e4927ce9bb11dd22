// Package db holds what the stores below it share: the comparison of a database's
// schema with the migrations of this binary ([CheckSchema]).
//
// It does not own a schema, SQL or a connection: each store has its own
// (db/postgres, db/sqlite). It keeps no state.
package db
