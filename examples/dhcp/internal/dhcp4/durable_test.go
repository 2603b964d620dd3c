package dhcp4_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/examples/dhcp/internal/config"
	"github.com/ipalloc/ipalloc/examples/dhcp/internal/dhcp4"
	"github.com/ipalloc/ipalloc/examples/dhcp/internal/leases"
	"github.com/ipalloc/ipalloc/store"
)

// slow is a store whose commits take a second to be durable.
type slow struct {
	store.Store
	commits, durable atomic.Int64
}

func (s *slow) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	s.commits.Add(1)
	time.Sleep(time.Second)
	defer s.durable.Add(1)
	return s.Store.Commit(ctx, changes...)
}

// TestAnswersComeWhenTheLeaseIsDurable has a hundred clients ask at once. None has an answer before its commit has come
// back, and those that come while the first commit is under way share the next one.
func TestAnswersComeWhenTheLeaseIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := config.Read([]byte("networks: [{name: office, interface: eth0, subnets: " +
			"[{subnet: 10.7.0.0/24, pools: [10.7.0.10-10.7.0.250]}]}]"))
		require.NoError(t, err)
		db := &slow{Store: store.NewMemory()}
		l, err := leases.Open(t.Context(), db, c, nil)
		require.NoError(t, err)
		s := &server{TB: t, Server: &dhcp4.Server{Leases: l, Offer: c.Offer}}
		before := db.commits.Load()
		var all sync.WaitGroup
		for n := range 100 {
			all.Go(func() {
				durable := db.durable.Load()
				if _, err := s.reply(discover(t, n)); err != nil {
					t.Error(err)
				}
				if db.durable.Load() == durable {
					t.Errorf("client %d has an offer, and nothing was committed", n)
				}
			})
		}
		all.Wait()
		require.LessOrEqual(t, db.commits.Load()-before, int64(2))
	})
}
