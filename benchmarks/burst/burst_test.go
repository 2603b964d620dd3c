package main_test

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/benchmarks/durable"
	"github.com/ipalloc/ipalloc/benchmarks/processes"
	"github.com/ipalloc/ipalloc/internal/unmet"
)

func TestMain(m *testing.M) {
	if processes.RunJob() {
		return
	}
	os.Exit(m.Run())
}

// atOnce is smaller than in the burst of the targets, which takes minutes for all kinds of pools: -processes=128.
var atOnce = flag.Int("processes", 40, "how many processes make a burst, at most")

// TestBurst runs a burst on each kind of pool of this library: many processes with 16 claims each. It runs once with
// all left alone and once with some killed.
func TestBurst(t *testing.T) {
	if testing.Short() {
		t.Skip("starts hundreds of processes")
	}
	for _, k := range durable.Kinds() {
		if k.Module != "github.com/ipalloc/ipalloc" {
			continue
		}
		for _, kill := range []int{0, 13} {
			t.Run(fmt.Sprintf("%s/kill=%d", k.Name, kill), func(t *testing.T) {
				count := *atOnce
				if k.Processes > 0 {
					count = min(count, k.Processes/2)
				}
				b := processes.Burst{
					Kind: k, Prefix: netip.MustParsePrefix("10.0.0.0/16"),
					Processes: count, Claims: 16, Kill: min(kill, count/4), Seed: 1,
				}
				o := runBurst(t, b)
				require.True(t, o.OK(), "%v", o)
				require.Equal(t, count*16, o.Granted)
				require.LessOrEqual(t, o.Killed, kill)
				t.Log(o)
			})
		}
	}
}

// TestBurstApart opens the pool for each claim.
func TestBurstApart(t *testing.T) {
	k, ok := durable.Named("ipalloc on bolt")
	require.True(t, ok)
	b := processes.Burst{
		Kind: k, Prefix: netip.MustParsePrefix("10.0.0.0/16"),
		Processes: 8, Claims: 4, Kill: 2, Apart: true, Seed: 2,
	}
	o := runBurst(t, b)
	require.True(t, o.OK(), "%v", o)
	require.Equal(t, 8*4, o.Granted)
}

// TestBurstBlocks gives each process a block of its own.
func TestBurstBlocks(t *testing.T) {
	for _, k := range durable.Kinds() {
		if k.OpenBlock == nil {
			continue
		}
		t.Run(k.Name, func(t *testing.T) {
			b := processes.Burst{
				Kind: k, Prefix: netip.MustParsePrefix("10.0.0.0/16"),
				Processes: 16, Claims: 16, Kill: 2, Blocks: true, Seed: 3,
			}
			o := runBurst(t, b)
			require.True(t, o.OK(), "%v", o)
			require.Equal(t, 16*16, o.Granted)
			t.Log(o)
		})
	}
}

// TestBurstFinds shows that a pool which processes cannot share is found out.
func TestBurstFinds(t *testing.T) {
	k, ok := durable.Named("go-ipam file")
	require.True(t, ok)
	o := runBurst(t, processes.Burst{Kind: k, Prefix: netip.MustParsePrefix("10.0.0.0/16"), Processes: 8, Claims: 8})
	require.False(t, o.OK(), "%v", o)
}

func runBurst(t *testing.T, b processes.Burst) processes.Outcome {
	t.Helper()
	dir := t.TempDir()
	servers := durable.NewServers(dir)
	defer func() { require.NoError(t, servers.Close()) }()
	address, end, err := b.Kind.Prepare(t.Context(), servers, dir)
	if errors.Is(err, durable.ErrNoServer) {
		unmet.Skip(t, err)
	}
	require.NoError(t, err)
	defer func() { require.NoError(t, end()) }()
	o, err := b.Run(t.Context(), address)
	require.NoError(t, err)
	return o
}
