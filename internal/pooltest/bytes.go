package pooltest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// Meter is something that a backend counts up, such as the bytes of its log.
type Meter struct {
	Unit string // what is reported, a commit
	Read func() int64
}

// BenchmarkBytes reports how many bytes a commit hands to the store, and what the meters count, as means over 1,000
// commits: 500 claims of one address, the lowest free one or a random one, and their releases, in random order.
func BenchmarkBytes(b *testing.B, open func(b *testing.B) store.Store, meters ...Meter) {
	for _, s := range []Shape{Packed(packedHeld), EveryOther(16), EveryOther(12)} {
		counted := &faults.Injector{}
		p := sync.OnceValue(func() *pool.Pool { return s.Build(b, counted.Wrap(open(b))) })
		for _, claims := range []string{"lowest", "random"} {
			b.Run(s.String()+"/claims="+claims, func(b *testing.B) {
				c := churn{pool: p(), random: rand.New(rand.NewPCG(1, 0))}
				if claims == "random" {
					c.within = s.prefix
				}
				counted.ResetCounts()
				before := readAll(meters)
				for b.Loop() {
					c.claimAndRelease(b, 500)
				}
				commits := float64(counted.Counts().Committed)
				b.ReportMetric(float64(counted.Counts().Bytes)/commits, "bytes/commit")
				for i, after := range readAll(meters) {
					b.ReportMetric(float64(after-before[i])/commits, meters[i].Unit)
				}
			})
		}
	}
}

func readAll(meters []Meter) []int64 {
	read := make([]int64, len(meters))
	for i, m := range meters {
		read[i] = m.Read()
	}
	return read
}

// churn claims addresses and releases them.
type churn struct {
	pool   *pool.Pool
	random *rand.Rand
	within netip.Prefix // of which random addresses are claimed; not valid for the lowest free ones
}

func (c *churn) claimAndRelease(b *testing.B, n int) {
	b.Helper()
	for i := range n {
		c.claim(b, fmt.Sprintf("6f1d2c3b-1111-4000-8000-%012d", i))
	}
	for _, i := range c.random.Perm(n) {
		_, err := c.pool.Release(b.Context(), pool.Held{Owner: fmt.Sprintf("6f1d2c3b-1111-4000-8000-%012d", i)})
		require.NoError(b, err)
	}
}

func (c *churn) claim(b *testing.B, owner string) {
	b.Helper()
	for {
		claim := pool.Claim{Owner: owner}
		if c.within.IsValid() {
			claim.Requests = []pool.Request{pool.ExactAddr(c.randomAddr())}
		}
		_, err := c.pool.Allocate(b.Context(), claim)
		if !errors.Is(err, pool.ErrTaken) {
			require.NoError(b, err)
			return
		}
	}
}

func (c *churn) randomAddr() netip.Addr {
	addr := c.within.Addr().As4()
	offset := c.random.Uint32N(1 << (32 - c.within.Bits()))
	binary.BigEndian.PutUint32(addr[:], binary.BigEndian.Uint32(addr[:])+offset)
	return netip.AddrFrom4(addr)
}
