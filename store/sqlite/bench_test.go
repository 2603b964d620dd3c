package sqlite_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store/sqlite"
	"github.com/ipalloc/ipalloc/store/storetest"
)

func BenchmarkStore(b *testing.B) { storetest.Benchmarks(b, fileBackend) }

// BenchmarkOpen opens and closes a file, as a program does that runs once for each change.
func BenchmarkOpen(b *testing.B) {
	for _, alone := range []bool{true, false} {
		name := "alone"
		if !alone {
			name = "beside another"
		}
		b.Run(name, func(b *testing.B) {
			path := b.TempDir() + "/ipalloc.db"
			s, err := sqlite.Open(b.Context(), path, nil)
			require.NoError(b, err)
			if alone {
				require.NoError(b, s.Close())
			} else {
				defer s.Close()
			}
			for b.Loop() {
				s, err := sqlite.Open(b.Context(), path, nil)
				require.NoError(b, err)
				require.NoError(b, s.Close())
			}
		})
	}
}
