package main

// What the tests use as it is.
var (
	Command = command
	RunTask = runTask
)

// Replace puts a table into a page.
func Replace(page, name string, head []string, rows ...[]string) (string, error) {
	return replace(page, &table{name: name, head: head, rows: rows})
}
