// Package unmet is for tests that need what not every machine has: a server, a program, the rights of root. Without it
// they are skipped, but in CI, where all of it has to be there, they fail.
package unmet

import (
	"os"
	"testing"
)

// IsFailure reports whether this is CI: a test that cannot run fails.
func IsFailure() bool { return os.Getenv("CI") == "true" }

// Skip skips the test if err, which says what it has not got, is not nil; in CI the test fails.
func Skip(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case IsFailure():
		t.Fatal(err)
	default:
		t.Skip(err)
	}
}
