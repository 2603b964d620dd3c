package simulation

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// Workload is what processes do with two pools of a network: they allocate, renew and release, in one pool and in both at once; they
// drain a pool and let it grow again, carve pools out of one, reap and reconcile. What they are told they hold must stay theirs.
type Workload struct {
	World *World
	// Open returns the store as a process sees it; a nil process sees it without steps.
	Open func(*Process) store.Store
	// Refusals are errors of the backend's own that calls may have when things go wrong, after which nothing has changed.
	Refusals []error

	acked  map[string]pool.Allocation // what an owner was told that it holds of a pool, by pool and owner
	trying map[string]int             // how many calls of an owner are under way
	doubt  map[string]bool            // a call of whom has not said what came of it, so that it may yet take effect
	asked  map[string]*pool.Pool      // through which handle that was, if its process lives: it sees to it that nothing does after its next answer
	// leaving are those whose last release did not say what came of it, as when its process died: it may yet take effect on what they held
	// then, so that what they are told that they hold is not certain until a release has come to its end.
	leaving map[string]bool
	absent  map[string]bool     // who was told that it holds nothing, and has not asked since
	holders map[netip.Addr]int  // by pool and address, how many records hold it
	shared  map[netip.Addr]bool // those with more than one
	Calls   int
}

const (
	poolA, poolB = "a", "b"
	owners       = 3 // of each process
	leaseTime    = 3 * time.Second
	grace        = 200 * time.Millisecond
)

// specs are the two that pool a changes between.
func specs() [2]pool.Spec {
	large := pool.Spec{
		Ranges: []netipx.IPRange{netipx.RangeOfPrefix(netip.MustParsePrefix("10.0.0.0/28"))}, AllocateReserved: true,
		Cooldown: time.Second, Network: "n",
	}
	small := large
	small.Ranges = []netipx.IPRange{netipx.RangeOfPrefix(netip.MustParsePrefix("10.0.0.0/29"))}
	small.Cooldown = 0
	return [2]pool.Spec{large, small}
}

// NewWorkload returns a workload with its pools, which it makes without steps.
func NewWorkload(w *World, open func(*Process) store.Store) (*Workload, error) {
	l := &Workload{
		World: w, Open: open,
		acked: map[string]pool.Allocation{}, trying: map[string]int{}, doubt: map[string]bool{}, asked: map[string]*pool.Pool{}, absent: map[string]bool{}, leaving: map[string]bool{}, holders: map[netip.Addr]int{}, shared: map[netip.Addr]bool{},
	}
	ctx := context.Background()
	if _, err := pool.Create(ctx, open(nil), poolA, specs()[0], l.options()); err != nil {
		return nil, err
	}
	b := pool.Spec{
		Ranges: []netipx.IPRange{netipx.RangeOfPrefix(netip.MustParsePrefix("10.0.1.0/29"))}, AllocateReserved: true,
		Strategy: pool.NextFree, Network: "n",
	}
	_, err := pool.Create(ctx, open(nil), poolB, b, l.options())
	return l, err
}

func (l *Workload) options() *pool.Options {
	return &pool.Options{
		Clock: l.World.Now, Random: l.World.Random.Uint64, Attempts: 12, Backoff: time.Nanosecond, CommitTimeout: time.Hour,
	}
}

// Observe is for [Backend.Observe]: it looks at each record that is written.
func (l *Workload) Observe(before, now store.Record) {
	if now.Kind != store.KindAllocation && now.Kind != store.KindCooling {
		return
	}
	l.hold(before, -1)
	if now.Revision > 0 {
		l.hold(now, 1)
	}
	key := now.Pool + "/" + now.Name
	if l.absent[key] && now.Kind == store.KindAllocation && now.Revision > 0 && now.State == "allocated" {
		l.World.Fail("%s was told that it holds nothing, and then was given %v", key, now.Prefixes)
	}
	acked, known := l.acked[key]
	if !known || now.Kind != store.KindAllocation || before.State != "allocated" {
		return
	}
	same := now.Revision > 0 && now.State == "allocated" && fmt.Sprint(now.Prefixes) == fmt.Sprint(before.Prefixes)
	ended := !before.Expires.IsZero() && !before.Expires.After(l.World.Latest())
	if !same && !ended {
		l.World.Fail("%s was told that it holds %v, and it was taken away: %s %v at %d %s became %s %v at %d %s", key, acked,
			before.State, before.Prefixes, before.Revision, before.Data, now.State, now.Prefixes, now.Revision, now.Data)
	}
}

func (l *Workload) hold(r store.Record, by int) {
	for _, p := range r.Prefixes {
		if r.Pool != poolA && r.Pool != poolB {
			return // the addresses of a carved pool are those of its parent
		}
		for addr := range addrsOf(p) {
			l.holders[addr] += by
			if l.holders[addr] > 1 {
				l.shared[addr] = true
			} else {
				delete(l.shared, addr)
			}
		}
	}
}

func addrsOf(p netip.Prefix) func(func(netip.Addr) bool) {
	return func(yield func(netip.Addr) bool) {
		for addr := p.Addr(); p.Contains(addr) && yield(addr); addr = addr.Next() {
		}
	}
}

// Check is for [World.AfterStep]: no address has two holders.
func (l *Workload) Check() error {
	for addr := range l.shared {
		return fmt.Errorf("%v has %d holders", addr, l.holders[addr])
	}
	return nil
}

// Audit reads everything, without steps, and requires that heads and records agree.
func (l *Workload) Audit() error {
	ctx, s := context.Background(), l.Open(nil)
	var ranges []netipx.IPRange
	for info, err := range pool.List(ctx, s) {
		if err != nil {
			return err
		}
		p, err := pool.Open(ctx, s, info.Name, l.options())
		if err != nil {
			return err
		}
		report, err := p.Verify(ctx)
		if err != nil {
			return err
		}
		if !report.OK() {
			return fmt.Errorf("pool %q: %v", info.Name, report)
		}
		if err := l.auditTogether(ctx, p); err != nil {
			return err
		}
		if info.Parent.Pool == "" {
			ranges = append(ranges, info.Spec.Ranges...)
		}
	}
	for i, r := range ranges {
		for _, other := range ranges[:i] {
			if r.Overlaps(other) {
				return fmt.Errorf("the ranges %v and %v of the network overlap", r, other)
			}
		}
	}
	return nil
}

// auditTogether requires that who claims in both pools at once has something in both or in none.
func (l *Workload) auditTogether(ctx context.Context, p *pool.Pool) error {
	if p.Name() != poolA && p.Name() != poolB {
		return nil
	}
	other, err := pool.Open(ctx, l.Open(nil), map[string]string{poolA: poolB, poolB: poolA}[p.Name()], l.options())
	if err != nil {
		return err
	}
	for a, err := range p.Allocations(ctx) {
		if err != nil {
			return err
		}
		if a.Labels["together"] == "" {
			continue
		}
		if _, err := other.Get(ctx, a.Owner); err != nil {
			return fmt.Errorf("%q holds %v in pool %q, but in the other pool: %w", a.Owner, a.Prefixes, p.Name(), err)
		}
	}
	return nil
}

// Body is what each process does: open the pools, and then one thing after the other, until it dies or the world is calm.
func (l *Workload) Body(p *Process) {
	ctx, s := context.Background(), l.Open(p)
	for !l.World.Calm() {
		a, err := pool.Open(ctx, s, poolA, l.options())
		if err != nil {
			continue
		}
		b, err := pool.Open(ctx, s, poolB, l.options())
		if err != nil {
			continue
		}
		for range 40 {
			if l.World.Calm() {
				break
			}
			l.Calls++
			l.act(ctx, p, s, a, b)
		}
	}
}

func (l *Workload) act(ctx context.Context, p *Process, s store.Store, a, b *pool.Pool) {
	random := l.World.Random
	one := [2]*pool.Pool{a, b}[random.IntN(2)]
	owner := fmt.Sprintf("%s.%d", p.Name, random.IntN(owners))
	switch random.IntN(22) {
	default:
		l.allocate(ctx, one, owner)
	case 8, 9, 10, 11, 12:
		l.release(ctx, one, owner)
	case 13, 14:
		l.renew(ctx, one, owner)
	case 15:
		l.together(ctx, "both."+p.Name, a, b)
	case 16:
		l.apart(ctx, "both."+p.Name, a, b)
	case 17:
		l.change(ctx, a)
	case 18:
		l.carve(ctx, s, a, "child."+p.Name)
	case 19:
		l.clean(ctx, one)
	case 20:
		l.bulk(ctx, p, one)
	case 21:
		l.block(ctx, a, "writer."+p.Name)
	}
}

func claimOf(owner string) pool.Claim {
	c := pool.Claim{Owner: owner}
	if owner[len(owner)-1] == '0' {
		c.TTL = leaseTime
	}
	return c
}

// expected are the errors that a call may have when things go wrong.
func (l *Workload) expected(call, key string, err error, also ...error) {
	also = append(append(also, l.Refusals...), ErrRefused, store.ErrUnknown, pool.ErrBusy)
	for _, each := range also {
		if err == nil || errors.Is(err, each) {
			return
		}
	}
	l.World.Fail("%s of %s: %v", call, key, err)
}

func (l *Workload) allocate(ctx context.Context, p *pool.Pool, owner string) {
	key := p.Name() + "/" + owner
	before, known := l.acked[key]
	doubt := l.doubt[key] && l.asked[key] != p
	defer l.try(key)()
	got, err := p.Allocate(ctx, claimOf(owner))
	l.doubt[key], l.asked[key] = err != nil && (doubt || errors.Is(err, store.ErrUnknown)), p
	l.absent[key] = errors.Is(err, pool.ErrExhausted) && !known && !l.doubt[key]
	if err != nil {
		l.expected("allocate", key, err, pool.ErrExhausted)
		if known && errors.Is(err, pool.ErrExhausted) && before.Expires.IsZero() {
			l.World.Fail("%s holds %v and is told that the pool is exhausted", key, before)
		}
		return
	}
	if known && before.Expires.IsZero() && (got.Generation != before.Generation || fmt.Sprint(got.Prefixes) != fmt.Sprint(before.Prefixes)) {
		l.World.Fail("%s holds %v and is told %v", key, before, got)
	}
	l.ack(key, got)
}

// ack notes what an owner was told that it holds.
func (l *Workload) ack(key string, a pool.Allocation) {
	if !l.leaving[key] {
		l.acked[key] = a
	}
}

// leave notes that a release of an owner is under way, until the function that it returns is called with its outcome.
func (l *Workload) leave(key string) (done func(error)) {
	delete(l.acked, key)
	l.leaving[key] = true
	return func(err error) { l.leaving[key] = errors.Is(err, store.ErrUnknown) }
}

// try notes that a call of an owner to allocate is under way, until the function that it returns is called.
func (l *Workload) try(key string) (done func()) {
	l.trying[key]++
	l.doubt[key] = true
	delete(l.absent, key)
	delete(l.asked, key)
	return func() { l.trying[key]-- }
}

func (l *Workload) release(ctx context.Context, p *pool.Pool, owner string) {
	key := p.Name() + "/" + owner
	before, known := l.acked[key]
	done := l.leave(key)
	_, err := p.Release(ctx, owner)
	done(err)
	if err == nil {
		l.doubt[key] = false
	}
	doubt := l.doubt[key] && l.asked[key] != p
	l.absent[key] = (err == nil || errors.Is(err, pool.ErrNotFound)) && !doubt && !errors.Is(err, store.ErrUnknown)
	l.expected("release", key, err, pool.ErrNotFound)
	if known && before.Expires.IsZero() && errors.Is(err, pool.ErrNotFound) {
		l.World.Fail("%s held %v, and nothing was there to release", key, before)
	}
}

func (l *Workload) renew(ctx context.Context, p *pool.Pool, owner string) {
	key := p.Name() + "/" + owner
	got, err := p.Renew(ctx, owner, leaseTime)
	l.expected("renew", key, err, pool.ErrNotFound)
	if before, known := l.acked[key]; known && err == nil && got.Expires.Before(before.Expires) {
		l.World.Fail("%s held until %v, and after a renewal until %v", key, before.Expires, got.Expires)
	}
}

func (l *Workload) together(ctx context.Context, owner string, a, b *pool.Pool) {
	defer l.try(poolA + "/" + owner)()
	defer l.try(poolB + "/" + owner)()
	claim := pool.Claim{Labels: map[string]string{"together": "yes"}}
	got, err := pool.AllocateTogether(ctx, owner, pool.Part{Pools: []*pool.Pool{a}, Claim: claim}, pool.Part{Pools: []*pool.Pool{b}, Claim: claim})
	l.expected("allocate together", owner, err, pool.ErrExhausted)
	if err != nil {
		return
	}
	for _, each := range got {
		l.ack(each.Pool.Name()+"/"+owner, each.Allocation)
	}
}

func (l *Workload) apart(ctx context.Context, owner string, a, b *pool.Pool) {
	doneA, doneB := l.leave(poolA+"/"+owner), l.leave(poolB+"/"+owner)
	_, err := pool.ReleaseTogether(ctx, owner, a, b)
	doneA(err)
	doneB(err)
	l.expected("release together", owner, err, pool.ErrNotFound)
}

func (l *Workload) change(ctx context.Context, p *pool.Pool) {
	spec := specs()[l.World.Random.IntN(2)]
	err := p.Update(ctx, spec)
	if errors.Is(err, pool.ErrStranded) && l.World.Random.IntN(2) == 0 {
		err = p.Drain(ctx, spec)
	}
	l.expected("update", p.Name(), err, pool.ErrStranded)
}

func (l *Workload) carve(ctx context.Context, s store.Store, parent *pool.Pool, name string) {
	claim := pool.Claim{Owner: name, Requests: []pool.Request{{Bits: 31}}}
	child, err := pool.Carve(ctx, parent, claim, name, pool.Spec{AllocateReserved: true}, l.options())
	l.expected("carve", name, err, pool.ErrExhausted, pool.ErrNoPool)
	if err != nil {
		return
	}
	_, err = child.Allocate(ctx, pool.Claim{Owner: "tenant"})
	l.expected("allocate in a child", name, err, pool.ErrNoPool)
	if l.World.Random.IntN(2) == 0 {
		err = pool.Delete(ctx, s, name, l.options())
		l.expected("delete of a child in use", name, err, pool.ErrInUse, pool.ErrNoPool)
	}
	_, err = child.Release(ctx, "tenant")
	l.expected("release in a child", name, err, pool.ErrNotFound)
	err = pool.Delete(ctx, s, name, l.options())
	l.expected("delete of a child", name, err, pool.ErrInUse, pool.ErrNoPool)
}

func (l *Workload) clean(ctx context.Context, p *pool.Pool) {
	if l.World.Random.IntN(4) == 0 {
		_, err := p.Reap(ctx)
		l.expected("reap", p.Name(), err)
		return
	}
	live := func(a pool.Allocation) bool {
		key := p.Name() + "/" + a.Owner
		_, known := l.acked[key]
		return known || l.trying[key] > 0 || a.Labels["together"] != ""
	}
	_, err := p.ReconcileFunc(ctx, live, &pool.ReconcileOptions{Grace: grace})
	l.expected("reconcile", p.Name(), err)
}

// bulk allocates or releases for all owners of the process, all or nothing or each by itself.
func (l *Workload) bulk(ctx context.Context, process *Process, p *pool.Pool) {
	var claims []pool.Claim
	var names []string
	var done []func()
	for i := range owners {
		owner := fmt.Sprintf("%s.%d", process.Name, i)
		done = append(done, l.try(p.Name()+"/"+owner))
		claims, names = append(claims, claimOf(owner)), append(names, owner)
	}
	defer func() {
		for _, each := range done {
			each()
		}
	}()
	switch l.World.Random.IntN(3) {
	case 0:
		got, err := p.AllocateAll(ctx, claims)
		l.expected("allocate all", p.Name(), err, pool.ErrExhausted)
		for _, a := range got {
			l.ack(p.Name()+"/"+a.Owner, a)
		}
	case 1:
		results, err := p.AllocateMany(ctx, claims)
		l.expected("allocate many", p.Name(), err)
		for i, r := range results {
			l.expected("allocate many", names[i], r.Err, pool.ErrExhausted)
			if r.Err == nil {
				l.ack(p.Name()+"/"+names[i], r.Allocation)
			}
		}
	default:
		var left []func(error)
		for _, owner := range names {
			left = append(left, l.leave(p.Name()+"/"+owner))
		}
		_, err := p.ReleaseAll(ctx, names)
		for _, each := range left {
			each(err)
		}
		l.expected("release all", p.Name(), err, pool.ErrNotFound)
	}
}

// block allocates in a block of the writer's own, and gives it back.
func (l *Workload) block(ctx context.Context, parent *pool.Pool, writer string) {
	claim := pool.Claim{Requests: []pool.Request{{Bits: 31}}}
	blocks, err := pool.OpenBlocks(ctx, parent, writer, claim, pool.Spec{AllocateReserved: true}, l.options())
	l.expected("open blocks", writer, err)
	if err != nil {
		return
	}
	for _, owner := range []string{"x", "y", "z"} {
		_, err := blocks.Allocate(ctx, pool.Claim{Owner: owner})
		l.expected("allocate in blocks", writer, err, pool.ErrExhausted)
	}
	for _, owner := range []string{"x", "y", "z"} {
		_, err := blocks.Release(ctx, owner)
		l.expected("release in blocks", writer, err, pool.ErrNotFound)
	}
	_, err = blocks.GiveBack(ctx, 0)
	l.expected("give back", writer, err)
}
