package storetest_test

import (
	"context"
	"testing"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// memoryBackend is a backend in memory, of which there can be any number of handles.
func memoryBackend(testing.TB) storetest.Backend {
	shared := store.NewMemory()
	return storetest.Backend{
		Open: func(context.Context) (store.Store, error) { return shared.Open(), nil },
	}
}

func TestMemory(t *testing.T) { storetest.Run(t, memoryBackend) }

func BenchmarkMemory(b *testing.B) { storetest.Benchmarks(b, memoryBackend) }
