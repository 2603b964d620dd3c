package simulation

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/pool"
)

// address returns that of a number in the universe.
func address(number int) netip.Addr {
	bytes := universe.Addr().As4()
	bytes[3] += byte(number)
	return netip.AddrFrom4(bytes)
}

func rangeFrom(first, last int) netipx.IPRange {
	return netipx.IPRangeFrom(address(first), address(last))
}

// specOf is that of a pool with one range.
func specOf(network string, first, last int, cooldown time.Duration) pool.Spec {
	return pool.Spec{
		Ranges: []netipx.IPRange{rangeFrom(first, last)}, IPv4: pool.FamilySpec{AllocateReserved: true},
		Cooldown: cooldown, Network: network,
	}
}

// spec returns one for a root pool. Those of different pools overlap more often than not.
func (c *actor) spec(name string) pool.Spec {
	var r [2]int
	network := networkN
	switch name {
	case poolA:
		r = one(c, [2]int{0, 15}, [2]int{0, 7}, [2]int{4, 11})
	case poolB:
		r = one(c, [2]int{16, 23}, [2]int{8, 23}, [2]int{12, 19})
	case poolSlash:
		r, network = [2]int{32, 47}, networkM
	default:
		r = one(c, [2]int{8, 15}, [2]int{0, 3}, [2]int{16, 27}, [2]int{20, 27}, [2]int{24, 27}, [2]int{24, 31})
	}
	if name != poolSlash && c.chance(6) {
		network = one(c, networkM, "")
	}
	spec := specOf(network, r[0], r[1], one(c, 0, 0, time.Second))
	if name == poolB {
		spec.Strategy = pool.NextFree
	}
	if c.chance(3) {
		spec.History, spec.HistoryMost = one(c, time.Second, time.Minute), one(c, 0, 5)
	}
	if c.chance(4) {
		gateway := one(c, address(1), address(9), address(17))
		spec.Subnets = []pool.Subnet{{Prefix: netip.PrefixFrom(universe.Addr(), universe.Bits()), Gateway: gateway}}
	}
	return c.excluding(spec)
}

// excluding adds an exclusion to a spec, now and then.
func (c *actor) excluding(spec pool.Spec) pool.Spec {
	if spec.Exclude = nil; c.chance(4) {
		first := c.World.Random.IntN(24)
		spec.Exclude = []netipx.IPRange{rangeFrom(first, first+c.World.Random.IntN(3))}
	}
	return spec
}

// change gives a pool another spec. One that was delegated keeps its ranges.
func (c *actor) change() {
	p := c.any()
	if p == nil || slices.Contains(imports, p.Name()) {
		return
	}
	spec := c.spec(p.Name())
	if slices.Contains(children, p.Name()) || slices.Contains(grandchildren, p.Name()) {
		info, err := p.Info(context.Background())
		if c.expect("look at "+p.Name(), err); err != nil {
			return
		}
		spec = c.excluding(info.Spec)
	}
	also := []error{pool.ErrOutOfRange, pool.ErrOverlap, pool.ErrInUse, pool.ErrInvalid}
	if c.chance(3) {
		_ = c.do("update of "+p.Name(), func(ctx context.Context) error { return p.Update(ctx, spec) }, also...)
	} else {
		_ = c.do("drain of "+p.Name(), func(ctx context.Context) error { return p.Drain(ctx, spec) }, also[1:]...)
	}
}

// create makes the pool that comes and goes.
func (c *actor) create() {
	spec := c.spec(poolC)
	var p *pool.Pool
	err := c.do("create "+poolC, func(ctx context.Context) (err error) {
		p, err = pool.Create(ctx, c.store, poolC, spec, c.with)
		return err
	}, pool.ErrExists, pool.ErrOverlap, pool.ErrInvalid)
	if err == nil {
		c.pools[poolC] = p
	}
}

// delete deletes a pool that is not always there.
func (c *actor) delete() {
	name := one(c, slices.Concat([]string{poolC, poolC}, children, grandchildren, imports)...)
	_ = c.do("delete "+name, func(ctx context.Context) error {
		return pool.Delete(ctx, c.store, name, c.with)
	}, pool.ErrInUse)
}

// external declares what is external in a network.
func (c *actor) external() {
	network, drain := one(c, networkN, networkM), c.chance(2)
	ranges := one(c, nil, nil, []netipx.IPRange{rangeFrom(2, 2)}, []netipx.IPRange{rangeFrom(12, 17)},
		[]netipx.IPRange{rangeFrom(5, 5), rangeFrom(20, 21)})
	_ = c.do("declare external in "+network, func(ctx context.Context) error {
		return pool.SetExternal(ctx, c.store, network, ranges, drain, c.with)
	}, pool.ErrOutOfRange, pool.ErrInvalid)
}

// delegate makes a pool of a part of another one.
func (c *actor) delegate() {
	name, from, bits := one(c, children...), one(c, poolA, poolA, poolB, poolC), one(c, 30, 31)
	if c.chance(3) {
		name, from, bits = one(c, grandchildren...), one(c, children...), one(c, 31, 32)
	}
	parent := c.open(from)
	if parent == nil {
		return
	}
	claim := pool.Claim{Owner: name, Requests: []pool.Request{{Bits: bits}}}
	var p *pool.Pool
	err := c.do("delegate "+name+" from "+from, func(ctx context.Context) (err error) {
		p, _, err = pool.Delegate(ctx, parent, claim, name, pool.Spec{IPv4: pool.FamilySpec{AllocateReserved: true}}, c.with)
		return err
	}, pool.ErrExhausted, pool.ErrExists, pool.ErrHeld)
	if err == nil {
		c.pools[name] = p
	}
}

// delegated returns a handle of a pool that was delegated from another, and who may hold something for it in that.
func (c *actor) delegated() (*pool.Pool, string) {
	p := c.open(one(c, append(children, grandchildren...)...))
	if p == nil {
		return nil, ""
	}
	return p, p.Name() + one(c, "", "+1", "+2")
}

// extend adds to a pool that was delegated from another.
func (c *actor) extend() {
	p, owner := c.delegated()
	if p == nil {
		return
	}
	_ = c.do("extend "+p.Name()+" for "+owner, func(ctx context.Context) error {
		_, err := p.Extend(ctx, pool.Claim{Owner: owner, Requests: []pool.Request{{Bits: 31}}})
		return err
	}, pool.ErrExhausted, pool.ErrHeld)
}

// retract takes from a pool that was delegated from another, through that pool or through its parent.
func (c *actor) retract() {
	p, owner := c.delegated()
	if p == nil {
		return
	}
	if c.chance(2) {
		_ = c.do("retract from "+p.Name()+" for "+owner, func(ctx context.Context) error {
			_, err := p.Retract(ctx, owner)
			return err
		}, pool.ErrNotFound, pool.ErrInUse, pool.ErrInvalid)
		return
	}
	parent := c.open(one(c, poolA, poolB, poolC, children[0], children[1]))
	if parent == nil {
		return
	}
	_ = c.do("release in "+parent.Name()+" for "+owner, func(ctx context.Context) error {
		_, err := parent.Release(ctx, pool.Held{Owner: owner})
		return err
	}, pool.ErrNotFound, pool.ErrInUse, pool.ErrInvalid)
}

// export keeps a copy of a pool, through its text.
func (c *actor) export() {
	p := c.any()
	if p == nil {
		return
	}
	var text bytes.Buffer
	if err := c.do("export of "+p.Name(), func(ctx context.Context) error { return p.Export(ctx, &text) }); err != nil {
		return
	}
	var s pool.Snapshot
	if err := json.Unmarshal(text.Bytes(), &s); err != nil {
		c.World.Fail("%s: export of %s: %v", c.process.Name, p.Name(), err)
	}
	c.saved = append(c.saved, s)
	if len(c.saved) > 4 {
		c.saved = c.saved[1:]
	}
}

// doImport makes a pool of a copy, as a root, under another name and maybe in another network.
func (c *actor) doImport() {
	if len(c.saved) == 0 {
		return
	}
	name, s := one(c, imports...), one(c, c.saved...)
	s.Parent, s.Grants, s.Allocations = "", nil, slices.Clone(s.Allocations)
	s.Spec.Network = one(c, s.Spec.Network, networkN, networkM, "")
	for i := range s.Allocations {
		a := &s.Allocations[i]
		a.Child, a.Labels = "", nil // nothing was delegated from the copy
		if _, isTenant := parentOf(a.Owner); isTenant {
			a.Owner = fmt.Sprintf("tenant %d", i)
		}
	}
	var p *pool.Pool
	err := c.do("import "+name, func(ctx context.Context) (err error) {
		p, err = pool.Import(ctx, c.store, name, s, c.with)
		return err
	}, pool.ErrExists, pool.ErrOverlap, pool.ErrInvalid) // the last if all of it is external there
	if err == nil {
		c.pools[name] = p
	}
}
