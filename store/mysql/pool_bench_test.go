package mysql_test

import (
	"testing"

	"github.com/ipalloc/ipalloc/internal/pooltest"
)

// newPlace is a schema, and for bare commits a table outside of it.
func newPlace(b *testing.B) pooltest.Place {
	return pooltest.Place{
		Open: tests.Opener(tests.Place(b)),
		Bare: func(held int) func(string) error {
			table := openBare(b, held)
			return func(owner string) error {
				table.insert(b, owner)
				return nil
			}
		},
	}
}

func BenchmarkPoolCommit(b *testing.B) { pooltest.BenchmarkCommit(b, newPlace) }

func BenchmarkPoolParallel(b *testing.B) { pooltest.BenchmarkParallel(b, newPlace) }

func BenchmarkPoolHeld(b *testing.B) { pooltest.BenchmarkHeld(b, newPlace) }

func BenchmarkPoolOpen(b *testing.B) { pooltest.BenchmarkOpen(b, "connect", newPlace) }
