package postgres_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/postgres"
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
	p, err := pool.Create(b.Context(), in, crashPool, pool.Spec{Ranges: ranges, AllocateReserved: true}, nil)
	require.NoError(b, err)
	allocateAll(b, p, s.claims(s.prefix))
	return p
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

// BenchmarkPoolCommit is one caller, who allocates and releases, beside a bare transaction that inserts one row. Each is done in an empty schema and in one with
// 60,000 held, all in turns.
func BenchmarkPoolCommit(b *testing.B) {
	var cases []commitCase
	for _, s := range []shape{emptyShape(), packedShape()} {
		held := len(s.claims(s.prefix))
		in := open(b, sharedServer(b).url("postgres"), newSchema())
		cases = append(cases, commitCase{fmt.Sprintf("held=%d", held), openBare(b, held), s.build(b, in)})
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
	bare bareTable
	pool *pool.Pool
}

func (c commitCase) measure(b *testing.B, watch stopwatch, owner string) {
	watch.measure(c.name+"/bare", func() { c.bare.insert(b, owner) })
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
		pools[goroutines] = s.build(b, open(b, sharedServer(b).url("postgres"), newSchema()))
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

// BenchmarkPoolOpen is what a program does that runs once for each claim: connect, open the pool, allocate. The last two are reported together.
func BenchmarkPoolOpen(b *testing.B) {
	for _, s := range []shape{emptyShape(), packedShape(), everyOther(16, 1<<15)} {
		b.Run(s.name, func(b *testing.B) {
			url, schema, watch := sharedServer(b).url("postgres"), newSchema(), stopwatch{}
			s.build(b, open(b, url, schema))
			for b.Loop() {
				var in *postgres.Store
				var err error
				watch.measure("connect", func() {
					in, err = postgres.Open(b.Context(), url, &postgres.Options{Schema: schema})
					require.NoError(b, err)
				})
				var p *pool.Pool
				watch.measure("pool+allocate", func() {
					p, err = pool.Open(b.Context(), in, crashPool, nil)
					require.NoError(b, err)
					_, err = p.Allocate(b.Context(), pool.Claim{Owner: "new"})
					require.NoError(b, err)
				})
				_, err = p.Release(b.Context(), "new")
				require.NoError(b, err)
				require.NoError(b, in.Close())
			}
			watch.report(b)
		})
	}
}

// BenchmarkPoolBytes reports how many bytes a commit hands to the store, and how many the server writes to its log, mean over 1,000 commits: 500 claims of one address,
// the lowest free one or a random one, and their releases, in random order. The log has the indexes too and, for the first change of each page after a checkpoint, the whole
// page, of which the server does the same for a bare row.
func BenchmarkPoolBytes(b *testing.B) {
	for _, s := range []shape{packedShape(), everyOther(16, 1<<15), everyOther(12, 1<<19)} {
		counted := &storetest.Faults{}
		p := sync.OnceValue(func() *pool.Pool {
			return s.build(b, counted.Wrap(open(b, sharedServer(b).url("postgres"), newSchema())))
		})
		for _, claims := range []string{"lowest", "random"} {
			b.Run(s.name+"/claims="+claims, func(b *testing.B) {
				c := churn{pool: p(), random: rand.New(rand.NewPCG(1, 0))}
				if claims == "random" {
					c.within = s.prefix
				}
				watch := connect(b, sharedServer(b).url("postgres"))
				before := logPosition(b, watch)
				counted.ResetCounts()
				for b.Loop() {
					c.claimAndRelease(b, 500)
				}
				commits := float64(counted.Counts().Committed)
				b.ReportMetric(float64(counted.Counts().Bytes)/commits, "bytes/commit")
				b.ReportMetric(float64(logPosition(b, watch)-before)/commits, "log-bytes/commit")
			})
		}
	}
}

// logPosition is how many bytes the server has written to its log.
func logPosition(b *testing.B, at *pgxpool.Pool) (position int64) {
	err := at.QueryRow(b.Context(), "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").Scan(&position)
	require.NoError(b, err)
	return position
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
