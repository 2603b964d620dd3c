package pool_test

import (
	"testing"
	"time"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// Handles that go on and on get through alike. A commit takes as long as one over a network.
func TestFair(t *testing.T) {
	memory := store.NewMemory()
	injector := &faults.Injector{Choose: func(c faults.Call) faults.Fault {
		if c.Method != faults.Commit {
			return faults.Fault{}
		}
		return faults.Fault{Delay: 300 * time.Microsecond}
	}}
	pooltest.Fair(t, func() store.Store { return injector.Wrap(memory.Open()) })
}
