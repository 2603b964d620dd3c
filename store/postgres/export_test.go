package postgres

// Searches are the texts of the statements that search in large tables, in a schema.
func Searches(schema string) map[string]string {
	s := statementsFor(schema)
	return map[string]string{
		"get": s.get, "listPool": s.listPool, "listAll": s.listAll, "byExpiry": s.byExpiry, "find": s.find,
	}
}
