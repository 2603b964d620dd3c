package pool

import (
	"context"
	"iter"
	"net/netip"

	"github.com/ipalloc/ipalloc/store"
)

// doInMemory brings one task to its end in a pool without a store.
func (p *Pool) doInMemory(ctx context.Context, t *task) (Allocation, error) {
	now := p.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.time = now
	// A task of the pool's own, so that nothing is allocated on the heap for it.
	own, writes := &p.own, p.own.writes[:0]
	*own = *t
	own.writes = writes
	if err := p.planTask(ctx, own, p.held[t.owner]); err != nil {
		own.writes = writes
		return Allocation{}, err
	}
	p.ledger.forget()
	if len(own.writes) > 0 {
		p.clock++
		p.wakeWaiting()
	}
	p.applyInMemory(own)
	if own.kind == taskRelease && len(own.writes) == 1 && own.writes[0].op == store.Delete {
		return own.result, nil // which nobody else has any more
	}
	return own.result.clone(), nil
}

// submitInMemory brings an op of several tasks to its end in a pool without a store.
func (p *Pool) submitInMemory(ctx context.Context, o *op) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.endBatch()
	for !o.done {
		clear(p.planning)
		p.reserve(o)
		if _, err := p.planAll(ctx, []*op{o}); err != nil {
			return err
		}
		p.settleInMemory(o)
	}
	return o.err
}

// endBatch forgets what was noted for a batch, since single tasks in memory are none.
func (p *Pool) endBatch() {
	clear(p.planning)
	clear(p.written)
}

// settleInMemory makes the plan of an op come true.
func (p *Pool) settleInMemory(o *op) {
	p.ledger.forget()
	written := false
	for i := range o.tasks {
		written = written || !o.tasks[i].done && len(o.tasks[i].writes) > 0
	}
	if written {
		p.clock++
		p.wakeWaiting()
	}
	for i := range o.tasks {
		if !o.tasks[i].done {
			p.applyInMemory(&o.tasks[i])
		}
	}
	p.settle(o)
}

// applyInMemory does the writes of a task.
func (p *Pool) applyInMemory(t *task) {
	for _, w := range t.writes {
		if w.holding.Generation == 0 {
			w.holding.Generation = p.clock
		}
		p.replaceInMemory(w)
	}
	if t.result.Owner != "" && t.result.Generation == 0 {
		t.result.Generation = p.clock
	}
}

// replaceInMemory does one write.
func (p *Pool) replaceInMemory(w write) {
	h := w.holding
	if h.stray {
		name := h.Prefixes[0]
		if w.op == store.Delete {
			p.expiry.replace(p.strays[name], nil)
			delete(p.strays, name)
			return
		}
		p.strays[name] = h
		p.expiry.replace(nil, h)
		return
	}
	old := p.held[h.Owner]
	if old.live() {
		p.index.remove(old)
	}
	if w.op == store.Delete {
		p.expiry.replace(old, nil)
		delete(p.held, h.Owner)
		return
	}
	p.expiry.replace(old, h)
	p.held[h.Owner] = h
	if h.live() {
		p.index.add(h)
	}
}

// allInMemory iterates over what is held and what cools down. The caller holds p.mu.
func (p *Pool) allInMemory() iter.Seq2[*holding, error] {
	return func(yield func(*holding, error) bool) {
		for _, h := range p.held {
			if !yield(h, nil) {
				return
			}
		}
		for _, h := range p.strays {
			if !yield(h, nil) {
				return
			}
		}
	}
}

func (p *Pool) allocationsInMemory() iter.Seq2[Allocation, error] {
	return func(yield func(Allocation, error) bool) {
		p.mu.Lock()
		all := make([]Allocation, 0, len(p.held))
		for _, h := range p.held {
			if h.live() {
				all = append(all, h.Allocation) // which is never changed, only replaced
			}
		}
		p.mu.Unlock()
		for _, a := range all {
			if !yield(a.clone(), nil) {
				return
			}
		}
	}
}

// index finds who holds an address: a map by prefix, and how many prefixes there are of each length.
type index struct {
	byPrefix map[netip.Prefix]*holding
	lengths  [2][129]int // for IPv4 and IPv6
}

func newIndex() index { return index{byPrefix: map[netip.Prefix]*holding{}} }

func (x *index) count(p netip.Prefix) *int {
	if p.Addr().Is4() {
		return &x.lengths[0][p.Bits()]
	}
	return &x.lengths[1][p.Bits()]
}

func (x *index) add(a *holding) {
	for _, p := range a.Prefixes {
		x.byPrefix[p] = a
		*x.count(p)++
	}
}

func (x *index) remove(a *holding) {
	for _, p := range a.Prefixes {
		delete(x.byPrefix, p)
		*x.count(p)--
	}
}

func (x *index) find(addr netip.Addr) *holding {
	for bits := addr.BitLen(); bits >= 0; bits-- {
		p := netip.PrefixFrom(addr, bits).Masked()
		if !p.IsValid() || *x.count(p) == 0 {
			continue
		}
		if a := x.byPrefix[p]; a != nil {
			return a
		}
	}
	return nil
}
