package mysql

import "github.com/ipalloc/ipalloc/store"

// Line is the name of the lock for which the turns at the key wait.
func (s *Store) Line(key store.Key) string { return s.line(key) }

// Statements are the statements of a migration.
func (m *Migration) Statements() []string { return m.statements() }
