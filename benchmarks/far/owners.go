package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"time"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// owners measures one pool with few owners, a tenth of all, all of them, and with holes.
func (m *measurer) owners(ctx context.Context) error {
	for _, name := range m.stores {
		if err := m.ownersOf(ctx, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// sizes are how many owners the pool of a store has, one after the other. Memory, and etcd's, hold a tenth.
func (m *measurer) sizes(name string) []int {
	most := m.ownerCount
	if name == "memory" || name == "etcd" {
		most /= 10
	}
	return []int{max(1, most/10_000), most / 10, most}
}

func (m *measurer) ownersOf(ctx context.Context, name string) (err error) {
	at, end, err := m.newSite(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	filled := 0
	var all []ownersRow
	for _, size := range m.sizes(name) {
		r := ownersRow{title: countText(size), holds: holding{Count: size}}
		if err := m.change(ctx, at, &r, size-filled, fills(filled, size)); err != nil {
			return err
		}
		filled = size
		all = append(all, r)
		if err := m.measureOwners(ctx, name, at, &all[len(all)-1]); err != nil {
			return err
		}
	}
	r := ownersRow{title: "a tenth of them released at random", holds: holding{Count: filled, Holes: true}}
	if err := m.change(ctx, at, &r, filled-r.holds.owners(), releases(filled)); err != nil {
		return err
	}
	if err := m.measureOwners(ctx, name, at, &r); err != nil {
		return err
	}
	return m.show(ownersTable(name, append(all, r)))
}

// ownersRow is what was measured of the pool at one size: a column of its table.
type ownersRow struct {
	title   string
	holds   holding
	changed int           // how many owners have come or gone since the size before
	took    time.Duration // and how long that took
	size    int64
	bare    time.Duration
	probed  probe
	checked verdict
}

// holding says which owners hold something.
type holding struct {
	Count int
	Holes bool // those that [holed] names have released
}

// owners is how many do.
func (h holding) owners() int {
	if !h.Holes {
		return h.Count
	}
	n := 0
	for i := range h.Count {
		if !holed(i) {
			n++
		}
	}
	return n
}

// holed reports whether the i-th owner is one of the tenth that releases.
func holed(i int) bool { return mix(uint64(i))%10 == 0 }

// mix is a bijection that scatters numbers (splitmix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// ownerOf is the name of the i-th owner: 36 characters, as UIDs of objects have, in the order of the numbers, as the
// lines of a sorted file come. So the records of a large pool are made in a time that a benchmark has.
func ownerOf(i int) string { return uid(uint64(i)<<32, mix(uint64(i))) }

// scatteredOwner is the name of another owner, somewhere between those of the first so many: in no order, as most UIDs
// are.
func scatteredOwner(i, among int) string {
	return uid(mix(^uint64(i))%(uint64(among)<<32), mix(uint64(i)))
}

func uid(a, b uint64) string {
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", a>>32, a>>16&0xffff, a&0xffff, b>>48, b&0xffffffffffff)
}

// addressOf is what the i-th owner gets: the lowest free address.
func addressOf(i int) netip.Addr { return addrOf(uint32(10)<<24 + 1 + uint32(i)) }

func addrOf(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// fills are the claims of the owners from first up to last.
func fills(first, last int) iter.Seq[pool.Step] {
	return func(yield func(pool.Step) bool) {
		for i := first; i < last && yield(pool.Allocate(pool.Claim{Owner: ownerOf(i)})); i++ {
		}
	}
}

// releases are those of a tenth of so many owners.
func releases(count int) iter.Seq[pool.Step] {
	return func(yield func(pool.Step) bool) {
		for i := range count {
			if holed(i) && !yield(pool.Release(pool.Held{Owner: ownerOf(i)})) {
				return
			}
		}
	}
}

// change does so many steps in bulk.
func (m *measurer) change(
	ctx context.Context, at site, r *ownersRow, count int, steps iter.Seq[pool.Step],
) (err error) {
	s, err := at.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	p, err := pool.Ensure(ctx, s, poolName, poolSpec, pool.Keep, nil)
	if err != nil {
		return err
	}
	start := time.Now()
	for result, err := range p.Each(ctx, steps) {
		if err = errors.Join(err, result.Err); err != nil {
			return err
		}
		if r.changed++; r.changed%500_000 == 0 {
			m.tell("%s: %s in %v", r.title, countText(r.changed), time.Since(start).Round(time.Second))
		}
	}
	r.took = time.Since(start)
	if r.changed != count {
		return fmt.Errorf("%d steps were done instead of %d", r.changed, count)
	}
	return nil
}

// measureOwners measures the pool at its size, in fresh processes.
func (m *measurer) measureOwners(ctx context.Context, name string, at site, r *ownersRow) (err error) {
	if r.bare, err = m.bareSwap(ctx, name); err != nil {
		return err
	}
	if at.memory != nil {
		r.probed, r.checked, err = inMemory(ctx, at, r.holds)
	} else {
		err = inProcess(ctx, probeTask, probeJob{at, r.holds}, &r.probed)
		if err == nil {
			err = inProcess(ctx, verifyTask, at, &r.checked)
		}
	}
	if err != nil {
		return err
	}
	if r.checked.Wrong != "" || r.checked.Holders != r.holds.owners() {
		return fmt.Errorf("%d owners hold something, and %d should: %s",
			r.checked.Holders, r.holds.owners(), r.checked.Wrong)
	}
	r.size, err = at.size(ctx)
	m.tell("%s %s: done", name, r.title)
	return err
}

// inMemory measures in this process what no other can see.
func inMemory(ctx context.Context, at site, holds holding) (probe, verdict, error) {
	probed, err := probeAt(ctx, at, holds)
	if err != nil {
		return probe{}, verdict{}, err
	}
	probed.Memory = 0 // all that this process has
	checked, err := verifyAt(ctx, at)
	checked.Memory = 0
	return probed, checked, err
}

// ownersTable has a column for each size.
func ownersTable(name string, all []ownersRow) *table {
	t := &table{name: "owners " + name, head: []string{"owners"}}
	for _, r := range all {
		t.head = append(t.head, r.title)
	}
	row := func(title string, cell func(r ownersRow) string) {
		cells := []string{title}
		measured := false
		for _, r := range all {
			cells = append(cells, cell(r))
			measured = measured || cells[len(cells)-1] != none
		}
		if measured {
			t.add(cells...)
		}
	}
	times := func(title string, of func(r ownersRow) time.Duration) {
		row(title, func(r ownersRow) string { return timeText(of(r)) })
	}
	sizes := func(title string, of func(r ownersRow) int64) {
		row(title, func(r ownersRow) string { return bytesText(of(r)) })
	}
	row("taken, or released, with `Each`, in order", func(r ownersRow) string { return rateText(r.changed, r.took) })
	row("the same of 4,096 owners whose names are in no order", func(r ownersRow) string {
		return rateText(2*batch, r.probed.Batch)
	})
	times("a fresh process opens the store", func(r ownersRow) time.Duration { return r.probed.Store })
	times("… opens the pool", func(r ownersRow) time.Duration { return r.probed.Pool })
	times("… allocates once", func(r ownersRow) time.Duration { return r.probed.First })
	sizes("memory of that process", func(r ownersRow) int64 { return r.probed.Memory })
	sizes("the heap of its handles", func(r ownersRow) int64 { return r.probed.Heap })
	times("a bare commit", func(r ownersRow) time.Duration { return r.bare })
	times("allocate, p50", func(r ownersRow) time.Duration { return r.probed.Allocate })
	times("release, p50", func(r ownersRow) time.Duration { return r.probed.Release })
	times("`Get` by owner, p50", func(r ownersRow) time.Duration { return r.probed.ByOwner })
	times("`Get` by address, p50", func(r ownersRow) time.Duration { return r.probed.ByAddress })
	times("`Info`, p50", func(r ownersRow) time.Duration { return r.probed.Info })
	times("the first 100 of `Allocations`", func(r ownersRow) time.Duration { return r.probed.Some })
	times("100 of `Find` by address", func(r ownersRow) time.Duration { return r.probed.Page })
	times("`Verify`", func(r ownersRow) time.Duration { return r.checked.Took })
	sizes("memory of a process that verifies, at most", func(r ownersRow) int64 { return r.checked.Memory })
	sizes("the head", func(r ownersRow) int64 { return r.probed.Head })
	row("records of a commit: mean · largest", func(r ownersRow) string {
		return bytesText(r.probed.Commit) + " · " + bytesText(r.probed.Largest)
	})
	sizes("the store", func(r ownersRow) int64 { return r.size })
	sizes("… for each owner", func(r ownersRow) int64 { return r.size / int64(r.holds.owners()) })
	return t
}

// headOf reads the head of a pool.
func headOf(ctx context.Context, s store.Store, name string) (store.Record, error) {
	return s.Get(ctx, store.Key{Kind: store.KindPool, Pool: name})
}
