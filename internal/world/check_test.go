package world_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/internal/world"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

var universe = map[pool.Family]netip.Prefix{
	pool.IPv4: netip.MustParsePrefix("10.0.0.0/26"), pool.IPv6: netip.MustParsePrefix("2001:db8::/122"),
}

func specOf(network string, prefixes ...string) pool.Spec {
	spec := pool.Spec{IPv4: pool.FamilySpec{AllocateReserved: true}, Network: network}
	for _, text := range prefixes {
		spec.Ranges = append(spec.Ranges, netipx.RangeOfPrefix(netip.MustParsePrefix(text)))
	}
	return spec
}

func held(owner, child string, prefixes ...string) *world.Record {
	r := &world.Record{Allocation: pool.Allocation{Owner: owner, Child: child}}
	for _, text := range prefixes {
		r.Prefixes = append(r.Prefixes, netip.MustParsePrefix(text))
	}
	return r
}

// family is a world of a parent, its child and a neighbour in one network, in which all is well.
func family() *world.World {
	parent := world.NewPool("parent", universe, specOf("net", "10.0.0.0/28"))
	parent.Records = []*world.Record{held("a", "child", "10.0.0.8/29"), held("b", "", "10.0.0.0/32")}
	child := world.NewPool("child", universe, specOf("net", "10.0.0.8/29"))
	child.Parent, child.Grants = "parent", []string{"a"}
	child.Records = []*world.Record{held("c", "", "10.0.0.8/32")}
	other := world.NewPool("other", universe, specOf("net", "10.0.0.16/28"))
	return &world.World{Pools: map[string]*world.Pool{"parent": parent, "child": child, "other": other}}
}

func TestCheckFindsEachBrokenRule(t *testing.T) {
	require.NoError(t, family().Check())
	for name, c := range map[string]struct {
		spoil func(w *world.World)
		want  string
	}{
		"two owners in a pool": {func(w *world.World) {
			w.Pools["parent"].Records = append(w.Pools["parent"].Records, held("d", "", "10.0.0.0/31"))
		}, "is held by"},
		"an owner of what was delegated": {func(w *world.World) {
			w.Pools["parent"].Records = append(w.Pools["parent"].Records, held("d", "", "10.0.0.8/32"))
		}, "is held by"},
		"an owner in two allocations": {func(w *world.World) {
			w.Pools["parent"].Records = append(w.Pools["parent"].Records, held("b", "", "10.0.0.1/32"))
		}, "two allocations"},
		"an owner in two blocks of a writer": {func(w *world.World) {
			w.Pools["child"].Writer, w.Pools["other"].Writer = "w", "w"
			w.Pools["other"].Records = []*world.Record{held("c", "", "10.0.0.16/32")}
		}, "two allocations"},
		"ranges that overlap": {func(w *world.World) {
			w.Pools["other"].Spec = specOf("net", "10.0.0.0/26")
		}, "are of the pool"},
		"held in another pool's ranges": {func(w *world.World) {
			w.Pools["other"].Records = []*world.Record{held("d", "", "10.0.0.4/32")}
		}, "are of the pool"},
		"cooling in another pool's ranges": {func(w *world.World) {
			r := held("d", "", "10.0.0.4/32")
			r.Cooling = true
			w.Pools["other"].Records = []*world.Record{r}
		}, "are of the pool"},
		"a child without its grant": {func(w *world.World) {
			w.Pools["parent"].Records = w.Pools["parent"].Records[1:]
		}, "holds nothing for it"},
		"a child with a grant for another": {func(w *world.World) {
			w.Pools["parent"].Records[0] = held("a", "another", "10.0.0.8/29")
		}, "holds nothing for it"},
		"a child with ranges outside": {func(w *world.World) {
			w.Pools["child"].Spec = specOf("net", "10.0.0.0/28")
		}, "was granted"},
		"a child that holds something outside": {func(w *world.World) {
			w.Pools["child"].Records = []*world.Record{held("c", "", "10.0.0.7/32")}
		}, "was granted"},
		"a child in another network": {func(w *world.World) {
			w.Pools["child"].Spec = specOf("", "10.0.0.8/29")
		}, "is in the network"},
		"a child without a parent": {func(w *world.World) {
			delete(w.Pools, "parent")
		}, "is not there"},
	} {
		t.Run(name, func(t *testing.T) {
			w := family()
			c.spoil(w)
			require.ErrorContains(t, w.Check(), c.want)
		})
	}
}

// stored is a store with a parent and a child in it.
func stored(t *testing.T) *store.Memory {
	ctx, s := context.Background(), store.NewMemory()
	parent, err := pool.Create(ctx, s, "parent", specOf("net", "10.0.0.0/28"), nil)
	require.NoError(t, err)
	claim := pool.Claim{Owner: "a", Requests: []pool.Request{{Bits: 29}}}
	child, _, err := pool.Delegate(ctx, parent, claim, "child",
		pool.Spec{IPv4: pool.FamilySpec{AllocateReserved: true}}, nil)
	require.NoError(t, err)
	_, err = child.Allocate(ctx, pool.Claim{Owner: "b"})
	require.NoError(t, err)
	external := []netipx.IPRange{netipx.RangeOfPrefix(netip.MustParsePrefix("10.0.0.7/32"))}
	require.NoError(t, pool.SetExternal(ctx, s, "net", external, true, nil))
	return s
}

func holding(prefix string) store.Record {
	prefixes := []netip.Prefix{netip.MustParsePrefix(prefix)}
	return store.Record{State: "allocated", Prefixes: prefixes, Created: time.Unix(1, 0)}
}

func TestAuditFindsWhatIsWrongInAStore(t *testing.T) {
	require.NoError(t, world.Audit(context.Background(), stored(t)))
	const allocation = store.KindAllocation
	for name, c := range map[string]struct {
		kind store.Kind
		pool string
		op   store.Op
		rest store.Record
		want string
	}{
		"a record too many":      {allocation, "child", store.Put, holding("10.0.0.3/32"), "do not agree"},
		"an address twice":       {allocation, "child", store.Put, holding("10.0.0.0/32"), "is held by"},
		"an address not granted": {allocation, "child", store.Put, holding("10.0.0.9/32"), "was granted"},
		"no network":             {store.KindNetwork, "net", store.Delete, store.Record{}, "want"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, s := context.Background(), stored(t)
			at := c.rest
			at.Key = store.Key{Kind: c.kind, Pool: c.pool, Name: "x"}
			head := store.Record{Key: store.Key{Kind: store.KindPool, Pool: c.pool}}
			if c.op == store.Delete {
				head.Kind, at.Key = c.kind, store.Key{Kind: c.kind, Pool: c.pool}
			}
			head, err := s.Get(ctx, head.Key)
			require.NoError(t, err)
			_, err = s.Commit(ctx, store.Change{Head: head, Writes: []store.Write{{Op: c.op, Record: at}}})
			require.NoError(t, err)
			require.ErrorContains(t, world.Audit(ctx, s), c.want)
		})
	}
}
