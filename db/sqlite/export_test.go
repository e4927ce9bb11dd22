package sqlite

import "database/sql"

// Statements returns every statement of the package.
func Statements() []string { return statements }

// Connections returns the store's writer and readers.
func Connections(s *Store) map[string]*sql.DB {
	return map[string]*sql.DB{"writer": s.w, "readers": s.r}
}

// CloseNote closes the note, so that noting fails.
func CloseNote(s *Store) error { return s.noted.close() }
