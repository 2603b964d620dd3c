package main

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"sync"
	"time"

	"github.com/ipalloc/ipalloc/benchmarks/durable"
	"github.com/ipalloc/ipalloc/benchmarks/peer"
	"github.com/ipalloc/ipalloc/internal/bench"
)

// benchCase is a row before it is measured.
type benchCase struct {
	Row
	// prepare makes what is measured for a subject, checks that its results are right, and leaves it ready. The
	// context ends when preparation takes too long.
	prepare func(ctx context.Context, s subject) (work, error)
	// durable reports whether the case is for allocators in memory or for durable pools.
	durable bool
	// holds is what the durable pools hold. Rows are measured in its order, as they use the pools of the rows before.
	holds content
}

// subject is an allocator or a kind of durable pool: one of both.
type subject struct {
	peer    *peer.Peer
	kind    *durable.Kind
	servers *durable.Servers // that the kinds share
	places  *places          // that the rows share
}

// work is a case that is ready to be measured.
type work struct {
	// round measures once, for about so long.
	round func(ctx context.Context, atLeast time.Duration) (reading, error)
	// first is a round that preparing it was; nil if the first round is yet to come.
	first *reading
	// spent is how long the first round took.
	spent time.Duration
	// most is how many rounds are enough; 0 if there is no such number.
	most int
	// place is the durable pool, which the row gives back; nil if there is none to give back.
	place *place
}

// reading is what one round gave.
type reading struct {
	value, allocs float64
	note          string
}

// sizes are how much is held in the cases. A quick run cuts them.
type sizes struct {
	sparse, mixed, mixedFew, largeHoles, owners, files int
	processes, claims, kill, plugins                   int
	// most is how much is held in any other case.
	most int
	// whole is the prefix that is filled.
	whole string
}

func fullSizes() sizes {
	return sizes{
		sparse: 1_000_000, mixed: 100_000, mixedFew: 1_000, largeHoles: 16_000_000, owners: 60_000, files: 60_000,
		processes: 128, claims: 16, kill: 13, plugins: 50, most: 1 << 24, whole: "10.0.0.0/16",
	}
}

func quickSizes() sizes {
	return sizes{
		sparse: 2_000, mixed: 2_000, mixedFew: 100, largeHoles: 2_000, owners: 200, files: 50,
		processes: 4, claims: 2, kill: 1, plugins: 3, most: 2_000, whole: "10.0.0.0/24",
	}
}

// The headings of the tables.
const (
	groupAddresses = "Single addresses: take one and release it"
	groupPrefixes  = "Prefixes: take one and release it"
	groupWhole     = "Filling, snapshots, memory"
	groupOwners    = "Pools in memory, with owners"
	groupDurable   = "Durable pools"
	groupBurst     = "Processes"
	groupPlugins   = "CNI plugins, from the start of the process to its end"
)

// The plots.
const (
	plotFill    = "fill"
	plotHoles   = "fill-holes"
	plotSize    = "size"
	plotMemory  = "memory"
	plotBytes   = "bytes"
	plotWriters = "writers"
)

// allCases are the rows of the report.
func allCases(n sizes) []benchCase {
	var all []benchCase
	for _, more := range [][]benchCase{
		addressCases(n), prefixCases(n), wholeCases(n), ownerCases(n), durableCases(n), processCases(n), pluginCases(n),
	} {
		all = append(all, more...)
	}
	return all
}

// lazily makes a list once, for all subjects of a row, and cuts it.
func (n sizes) lazily(list func() []netip.Prefix) func() ([]netip.Prefix, error) {
	return sync.OnceValues(func() ([]netip.Prefix, error) {
		all := list()
		return all[:min(len(all), n.most)], nil
	})
}

func addressCases(n sizes) []benchCase {
	var all []benchCase
	add := func(name, plot string, x float64, s peer.Shape, held func() []netip.Prefix) {
		row := Row{Name: name, Group: groupAddresses, Unit: Nanoseconds, Plot: plot, X: x}
		all = append(all, benchCase{Row: row, prepare: pairs(s, n.lazily(held))})
	}
	slash16 := peer.Addresses("10.0.0.0/16")
	for _, fill := range []float64{0, 1, 50, 99, 99.9} {
		name, plot := fmt.Sprintf("v4-16/packed/fill=%v%%", fill), plotFill
		if fill == 0 {
			plot = "" // on its axis that would be where 1 % is
		}
		add(name, plot, 100-fill, slash16, func() []netip.Prefix {
			return packed(slash16, min(share(slash16, fill), n.most))
		})
	}
	for _, fill := range []float64{1, 50, 99, 99.9} {
		name := fmt.Sprintf("v4-16/holes/fill=%v%%", fill)
		add(name, plotHoles, 100-fill, slash16, func() []netip.Prefix {
			return holes(slash16, min(share(slash16, fill), n.most))
		})
	}
	add("v4-16/holes/taken=60000", "", 0, slash16, func() []netip.Prefix { return holes(slash16, 60_000) })
	for _, bits := range []int{24, 20, 16, 12, 8} {
		s := peer.Addresses(fmt.Sprintf("10.0.0.0/%d", bits))
		name := fmt.Sprintf("v4-%d/packed/fill=50%%", bits)
		if bits == 16 {
			name += "/by-size"
		}
		add(name, plotSize, float64(capacity(s)), s, func() []netip.Prefix { return packed(s, min(share(s, 50), n.most)) })
	}
	slash8 := peer.Addresses("10.0.0.0/8")
	add("v4-8/holes/taken=16M", "", 0, slash8, func() []netip.Prefix { return holes(slash8, n.largeHoles) })
	slash64 := peer.Addresses("2001:db8::/64")
	add("v6-64/fill=0", "", 0, slash64, func() []netip.Prefix { return nil })
	add("v6-64/random/held=1000000", "", 0, slash64, func() []netip.Prefix { return bench.RandomIn64(n.sparse) })
	return all
}

// share is a percentage of what the shape has.
func share(s peer.Shape, percent float64) int { return int(float64(capacity(s)) * percent / 100) }

func prefixCases(n sizes) []benchCase {
	var all []benchCase
	add := func(name string, s peer.Shape, held func() []netip.Prefix) {
		row := Row{Name: name, Group: groupPrefixes, Unit: Nanoseconds}
		all = append(all, benchCase{Row: row, prepare: pairs(s, n.lazily(held))})
	}
	nodes := peer.Prefixes("10.0.0.0/8", 24)
	add("v4-8-into-24/fill=0%", nodes, func() []netip.Prefix { return nil })
	add("v4-8-into-24/held=1000", nodes, func() []netip.Prefix { return packed(nodes, 1000) })
	add("v4-8-into-24/fill=99%", nodes, func() []netip.Prefix { return packed(nodes, min(share(nodes, 99), n.most)) })
	add("v4-8-into-24/free=1", nodes, func() []netip.Prefix { return packed(nodes, capacity(nodes)-1) })
	sites := peer.Prefixes("2001:db8::/48", 64)
	add("v6-48-into-64/fill=50%", sites, func() []netip.Prefix { return packed(sites, share(sites, 50)) })
	for _, held := range []int{n.mixedFew, n.mixed} {
		row := Row{Name: "v4-8/lengths=20-32/held=1000", Group: groupPrefixes, Unit: Nanoseconds}
		if held == n.mixed {
			row.Name = "v4-8/lengths=20-32/held=100000"
		}
		all = append(all, benchCase{Row: row, prepare: replaceMixed(peer.Prefixes("10.0.0.0/8", 0), held)})
	}
	return all
}

func wholeCases(n sizes) []benchCase {
	slash16 := peer.Addresses("10.0.0.0/16")
	every := n.lazily(func() []netip.Prefix { return alternate(slash16) })
	all := []benchCase{
		{Row: Row{Name: "fill a /16", Group: groupWhole, Unit: Nanoseconds}, prepare: fillWhole(peer.Addresses(n.whole))},
		{Row: Row{Name: "encode and decode v4-16/alternate", Group: groupWhole, Unit: Nanoseconds},
			prepare: snapshot(slash16, every)},
		{Row: Row{Name: "encoded size of v4-16/alternate", Group: groupWhole, Unit: Bytes},
			prepare: snapshotSize(slash16, every)},
	}
	add := func(name, plot string, x float64, s peer.Shape, held func() []netip.Prefix) {
		row := Row{Name: name, Group: groupWhole, Unit: Bytes, Plot: plot, X: x}
		all = append(all, benchCase{Row: row, prepare: memory(s, n.lazily(held))})
	}
	add("memory: v4-16/packed/taken=60000", "", 0, slash16, func() []netip.Prefix { return packed(slash16, 60_000) })
	add("memory: v4-16/alternate", "", 0, slash16, func() []netip.Prefix { return alternate(slash16) })
	for _, bits := range []int{24, 20, 16, 12} {
		s := peer.Addresses(fmt.Sprintf("10.0.0.0/%d", bits))
		name := fmt.Sprintf("memory: v4-%d/holes/fill=50%%", bits)
		add(name, plotMemory, float64(capacity(s)), s, func() []netip.Prefix { return holes(s, min(share(s, 50), n.most)) })
	}
	slash64 := peer.Addresses("2001:db8::/64")
	add("memory: v6-64/random/held=1000000", "", 0, slash64, func() []netip.Prefix { return bench.RandomIn64(n.sparse) })
	return all
}

func ownerCases(n sizes) []benchCase {
	row := func(name string) Row { return Row{Name: name, Group: groupOwners, Unit: Nanoseconds} }
	return []benchCase{
		{Row: row("allocate and release/held=0"), prepare: ownerPairs(0, 1)},
		{Row: row("allocate and release/held=60000"), prepare: ownerPairs(n.owners, 1)},
		{Row: row("allocate and release/held=60000/goroutines=64"), prepare: ownerPairs(n.owners, 64)},
	}
}

func durableCases(n sizes) []benchCase {
	var all []benchCase
	add := func(name string, unit Unit, holds content,
		prepare func(content) func(context.Context, subject) (work, error),
	) *Row {
		holds.held = min(holds.held, n.files)
		row := Row{Name: name, Group: groupDurable, Unit: unit}
		all = append(all, benchCase{Row: row, prepare: prepare(holds), durable: true, holds: holds})
		return &all[len(all)-1].Row
	}
	for _, held := range []int{0, 1_000, 10_000, 60_000} {
		add(fmt.Sprintf("allocate/held=%d", held), Nanoseconds, content{held, 1}, allocateOnce)
	}
	for _, writers := range []int{1, 4, 16, 64} {
		row := add(fmt.Sprintf("allocate and release/writers=%d", writers), PairsSecond, content{0, 1}, throughput(writers))
		row.Plot, row.X = plotWriters, float64(writers)
	}
	for _, held := range []int{100, 1_000, 10_000, 60_000} {
		row := add(fmt.Sprintf("bytes written a change/held=%d", held), Bytes, content{held, 1}, bytesWritten)
		row.Plot, row.X = plotBytes, float64(held)
	}
	for _, held := range []int{100, 60_000} {
		add(fmt.Sprintf("bytes given to the store a change/held=%d", held), Bytes, content{held, 1}, bytesGiven)
	}
	add("bytes given to the store a change/every other of a /16 held", Bytes, content{60_000, 2}, bytesGiven)
	add("bytes written a change/every other of a /16 held", Bytes, content{60_000, 2}, bytesWritten)
	add("bytes written a change/all but every eighth released", Bytes, content{60_000, 8}, bytesWritten)
	return all
}

func processCases(n sizes) []benchCase {
	var all []benchCase
	add := func(name string, holds content, prepare func(context.Context, subject) (work, error)) {
		all = append(all, benchCase{
			Row:     Row{Name: name, Group: groupBurst, Unit: Nanoseconds},
			prepare: prepare, durable: true, holds: holds,
		})
	}
	full, last := content{n.files, 1}, content{math.MaxInt, 1}
	add("fresh process, held=60000: open and allocate", full, freshProcess(full, false))
	add("fresh process, held=60000: from its start to its end", full, freshProcess(full, true))
	add("burst: 128 processes, 16 claims each", last, burst(n, 0, false))
	add("burst: the same, a tenth killed and tried again", last, burst(n, n.kill, false))
	add("burst: the same, none killed, a block a process", last, burst(n, 0, true))
	return all
}

func pluginCases(n sizes) []benchCase {
	var all []benchCase
	type call = func(context.Context, *plugin, time.Duration) (reading, error)
	within := func(folder, name string, unit Unit, held int, do call) {
		all = append(all, benchCase{
			Row:     Row{Name: "plugin: " + name, Group: groupPlugins, Unit: unit},
			prepare: pluginCase(folder, held, do), durable: true, holds: content{math.MaxInt, 1},
		})
	}
	add := func(name string, unit Unit, held int, do call) { within("", name, unit, held, do) }
	add("VERSION, the start alone", Nanoseconds, 0, calls("VERSION", nothing, nothing))
	add("ADD, held=0", Nanoseconds, 0, calls("ADD", nothing, del))
	within(inMemory, "ADD, held=0, in memory", Nanoseconds, 0, calls("ADD", nothing, del))
	add("ADD, held=60000", Nanoseconds, n.files, calls("ADD", nothing, del))
	add("the first ADD of a node", Nanoseconds, 0, calls("ADD", newNode, oldNode))
	add("50 ADDs at once, held=0", Nanoseconds, 0, atOnce(n.plugins))
	add("50 ADDs at once, held=60000", Nanoseconds, n.files, atOnce(n.plugins))
	add("size of the program", Bytes, 0, programSize)
	return all
}
