package pool

import (
	"fmt"
	"iter"
	"net/netip"
)

// allocateInMemory is Allocate for a pool without a store.
func (p *Pool) allocateInMemory(claim *Claim) (Allocation, error) {
	now := p.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.held[claim.Owner]; a != nil {
		return answer(a, claim, p.ledger.spec)
	}
	prefixes, err := p.ledger.grant(claim)
	if err != nil {
		return Allocation{}, err
	}
	p.ledger.journal = p.ledger.journal[:0]
	p.clock++
	a := &Allocation{Owner: claim.Owner, Prefixes: prefixes, Generation: p.clock, Created: now}
	p.held[a.Owner] = a
	p.index.add(a)
	return a.clone(), nil
}

// answer is what an owner who holds a gets to its claim.
func answer(a *Allocation, claim *Claim, spec *resolvedSpec) (Allocation, error) {
	if claim.isMetBy(a.Prefixes, spec) {
		return a.clone(), nil
	}
	if _, err := claim.resolve(spec, claim.Policy, nil); err != nil {
		return Allocation{}, err
	}
	return Allocation{}, fmt.Errorf("%w: it holds %v", ErrHeld, a.Prefixes)
}

// releaseInMemory is ReleaseGeneration for a pool without a store.
func (p *Pool) releaseInMemory(owner string, generation int64) (Allocation, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.held[owner]
	if err := checkRelease(a, generation); err != nil {
		return Allocation{}, err
	}
	if err := p.ledger.release(a.Prefixes); err != nil {
		return Allocation{}, err
	}
	p.ledger.journal = p.ledger.journal[:0]
	delete(p.held, owner)
	p.index.remove(a)
	p.clock++
	return *a, nil
}

func (p *Pool) allocationsInMemory() iter.Seq2[Allocation, error] {
	return func(yield func(Allocation, error) bool) {
		p.mu.Lock()
		all := make([]Allocation, 0, len(p.held))
		for _, a := range p.held {
			all = append(all, a.clone())
		}
		p.mu.Unlock()
		for _, a := range all {
			if !yield(a, nil) {
				return
			}
		}
	}
}

// index finds who holds an address: a map by prefix, and how many prefixes there are of each length.
type index struct {
	byPrefix map[netip.Prefix]*Allocation
	lengths  [2][129]int // for IPv4 and IPv6
}

func newIndex() index { return index{byPrefix: map[netip.Prefix]*Allocation{}} }

func (x *index) count(p netip.Prefix) *int {
	if p.Addr().Is4() {
		return &x.lengths[0][p.Bits()]
	}
	return &x.lengths[1][p.Bits()]
}

func (x *index) add(a *Allocation) {
	for _, p := range a.Prefixes {
		x.byPrefix[p] = a
		*x.count(p)++
	}
}

func (x *index) remove(a *Allocation) {
	for _, p := range a.Prefixes {
		delete(x.byPrefix, p)
		*x.count(p)--
	}
}

func (x *index) find(addr netip.Addr) *Allocation {
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
