package bolt_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// shape is a pool that is measured, with what is held in it.
type shape struct {
	name   string
	prefix netip.Prefix
	claims func(prefix netip.Prefix) []pool.Claim
}

const packedHeld = 60_000

func emptyShape() shape {
	return shape{"v4-16/packed/held=0", netip.MustParsePrefix("10.0.0.0/16"), func(netip.Prefix) []pool.Claim { return nil }}
}

func packedShape() shape {
	return shape{"v4-16/packed/held=60000", netip.MustParsePrefix("10.0.0.0/16"), func(netip.Prefix) []pool.Claim {
		claims := make([]pool.Claim, packedHeld)
		for i := range claims {
			claims[i].Owner = heldOwner(i)
		}
		return claims
	}}
}

// everyOther is the most fragmented free space that there is.
func everyOther(bits, held int) shape {
	name := fmt.Sprintf("v4-%d/every-other/held=%d", bits, held)
	return shape{name, netip.PrefixFrom(netip.MustParseAddr("10.0.0.0"), bits), func(prefix netip.Prefix) []pool.Claim {
		claims, addr := make([]pool.Claim, held), prefix.Addr()
		for i := range claims {
			claims[i] = pool.Claim{Owner: heldOwner(i), Requests: []pool.Request{pool.ExactAddr(addr)}}
			addr = addr.Next().Next()
		}
		return claims
	}}
}

// heldOwner is as long as a UID.
func heldOwner(i int) string { return fmt.Sprintf("6f1d2c3b-0000-4000-8000-%012d", i) }

// build makes the pool in the store.
func (s shape) build(b *testing.B, in store.Store) *pool.Pool {
	b.Helper()
	ranges, err := cidr.ParseRanges(s.prefix.String())
	require.NoError(b, err)
	p, err := pool.Create(b.Context(), in, pooltest.Name, pool.Spec{Ranges: ranges, AllocateReserved: true}, nil)
	require.NoError(b, err)
	pooltest.AllocateAll(b, p, s.claims(s.prefix))
	return p
}

func openFile(b *testing.B, path string) *bolt.Store {
	b.Helper()
	s, err := bolt.Open(b.Context(), path, nil)
	require.NoError(b, err)
	return s
}

// bareDB is a bbolt file that knows nothing of pools: one bucket of small values.
type bareDB struct{ db *bbolt.DB }

func openBare(b *testing.B, held int) bareDB {
	b.Helper()
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "bare.db"), 0o600, nil)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, db.Close()) })
	f := bareDB{db}
	for first := 0; first == 0 || first < held; first += 250 {
		var keys []string
		for i := first; i < min(first+250, held); i++ {
			keys = append(keys, heldOwner(i))
		}
		require.NoError(b, f.put(keys...))
	}
	return f
}

// put is one bare commit.
func (f bareDB) put(keys ...string) error {
	return f.db.Update(func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists([]byte("records"))
		for i := 0; i < len(keys) && err == nil; i++ {
			err = bucket.Put([]byte(keys[i]), make([]byte, 200))
		}
		return err
	})
}

// stopwatch keeps how long each of several things took that are done in turns: what disturbs the machine meanwhile disturbs
// all of them.
type stopwatch map[string][]time.Duration

func (w stopwatch) measure(name string, do func()) {
	start := time.Now()
	do()
	w[name] = append(w[name], time.Since(start))
}

// report reports the medians, instead of the time of a whole turn.
func (w stopwatch) report(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	for name := range w {
		b.ReportMetric(float64(w.median(name).Nanoseconds()), name+"-ns")
	}
}

func (w stopwatch) median(name string) time.Duration {
	slices.Sort(w[name])
	return w[name][len(w[name])/2]
}

// BenchmarkPoolCommit is one caller on a file, who allocates and releases, beside a bare bbolt Update that puts one small value.
// Each is done in an empty file and in one with 60,000 held, all in turns.
func BenchmarkPoolCommit(b *testing.B) {
	var cases []commitCase
	for _, s := range []shape{emptyShape(), packedShape()} {
		file := openFile(b, filepath.Join(b.TempDir(), "ipalloc.db"))
		b.Cleanup(func() { require.NoError(b, file.Close()) })
		held := len(s.claims(s.prefix))
		cases = append(cases, commitCase{fmt.Sprintf("held=%d", held), openBare(b, held), s.build(b, file)})
	}
	watch, turn := stopwatch{}, packedHeld
	for b.Loop() {
		turn++
		for _, c := range cases {
			c.measure(b, watch, heldOwner(turn))
		}
	}
	watch.report(b)
}

type commitCase struct {
	name string
	bare bareDB
	pool *pool.Pool
}

func (c commitCase) measure(b *testing.B, watch stopwatch, owner string) {
	watch.measure(c.name+"/bare", func() { require.NoError(b, c.bare.put(owner)) })
	watch.measure(c.name+"/allocate", func() {
		_, err := c.pool.Allocate(b.Context(), pool.Claim{Owner: owner})
		require.NoError(b, err)
	})
	watch.measure(c.name+"/release", func() {
		_, err := c.pool.Release(b.Context(), owner)
		require.NoError(b, err)
	})
}

// BenchmarkPoolParallel allocates and releases from one goroutine and from 64, each for owners of its own, in turns. It
// reports such pairs a second, of all goroutines together.
func BenchmarkPoolParallel(b *testing.B) {
	const each = 20
	s, watch, pools := emptyShape(), stopwatch{}, map[int]*pool.Pool{}
	for _, goroutines := range []int{1, 64} {
		file := openFile(b, filepath.Join(b.TempDir(), "ipalloc.db"))
		b.Cleanup(func() { require.NoError(b, file.Close()) })
		pools[goroutines] = s.build(b, file)
	}
	for b.Loop() {
		for goroutines, p := range pools {
			watch.measure(fmt.Sprint(goroutines), func() { pairs(b, p, goroutines, each) })
		}
	}
	b.ReportMetric(0, "ns/op")
	for goroutines := range pools {
		b.ReportMetric(float64(goroutines*each)/watch.median(fmt.Sprint(goroutines)).Seconds(), fmt.Sprintf("goroutines=%d/pairs/s", goroutines))
	}
}

// pairs allocates and releases n times in each of so many goroutines.
func pairs(b *testing.B, p *pool.Pool, goroutines, n int) {
	var wg sync.WaitGroup
	for i := range goroutines {
		wg.Go(func() {
			owner := heldOwner(i)
			for range n {
				_, err := p.Allocate(b.Context(), pool.Claim{Owner: owner})
				if err == nil {
					_, err = p.Release(b.Context(), owner)
				}
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkPoolOpen is what a program does that runs once for each claim: open the file, open the pool, allocate. The last two
// are reported together.
func BenchmarkPoolOpen(b *testing.B) {
	for _, s := range []shape{emptyShape(), packedShape(), everyOther(16, 1<<15)} {
		b.Run(s.name, func(b *testing.B) {
			path, watch := filepath.Join(b.TempDir(), "ipalloc.db"), stopwatch{}
			file := openFile(b, path)
			s.build(b, file)
			require.NoError(b, file.Close())
			for b.Loop() {
				watch.measure("file", func() { file = openFile(b, path) })
				var p *pool.Pool
				watch.measure("pool+allocate", func() {
					var err error
					p, err = pool.Open(b.Context(), file, pooltest.Name, nil)
					require.NoError(b, err)
					_, err = p.Allocate(b.Context(), pool.Claim{Owner: "new"})
					require.NoError(b, err)
				})
				_, err := p.Release(b.Context(), "new")
				require.NoError(b, err)
				require.NoError(b, file.Close())
			}
			watch.report(b)
		})
	}
}

// BenchmarkPoolBytes reports how many bytes a commit hands to the store, mean over 1,000 commits: 500 claims of one address,
// the lowest free one or a random one, and their releases, in random order.
func BenchmarkPoolBytes(b *testing.B) {
	for _, s := range []shape{packedShape(), everyOther(16, 1<<15), everyOther(12, 1<<19)} {
		counted := &storetest.Faults{}
		p := sync.OnceValue(func() *pool.Pool { return s.build(b, counted.Wrap(store.NewMemory())) })
		for _, claims := range []string{"lowest", "random"} {
			b.Run(s.name+"/claims="+claims, func(b *testing.B) {
				c := churn{pool: p(), random: rand.New(rand.NewPCG(1, 0))}
				if claims == "random" {
					c.within = s.prefix
				}
				counted.ResetCounts()
				for b.Loop() {
					c.claimAndRelease(b, 500)
				}
				b.ReportMetric(float64(counted.Counts().Bytes)/float64(counted.Counts().Committed), "bytes/commit")
			})
		}
	}
}

// churn claims addresses and releases them.
type churn struct {
	pool   *pool.Pool
	random *rand.Rand
	within netip.Prefix // of which random addresses are claimed; not valid for the lowest free ones
}

func (c *churn) claimAndRelease(b *testing.B, n int) {
	for i := range n {
		c.claim(b, fmt.Sprintf("6f1d2c3b-1111-4000-8000-%012d", i))
	}
	for _, i := range c.random.Perm(n) {
		_, err := c.pool.Release(b.Context(), fmt.Sprintf("6f1d2c3b-1111-4000-8000-%012d", i))
		require.NoError(b, err)
	}
}

func (c *churn) claim(b *testing.B, owner string) {
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
