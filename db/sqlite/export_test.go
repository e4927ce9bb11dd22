package sqlite

import "database/sql"

// Statements returns every statement of the package.
func Statements() []string { return statements }

// Connections are the store's writer and readers.
func Connections(s *Store) map[string]*sql.DB {
	return map[string]*sql.DB{"writer": s.w, "readers": s.r}
}

// CloseNote lets nothing more be noted.
func CloseNote(s *Store) error { return s.noted.close() }
