package pool

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/store"
)

// Report is what [Pool.Verify] found: whether the addresses that the head says are taken are those that owners hold. In a pool that
// only this package has written, they are, after any crash.
type Report struct {
	// Allocations is how many owners hold something.
	Allocations int
	// Leaked addresses are taken, but nobody holds them: they cannot be handed out.
	Leaked []netipx.IPRange
	// Unguarded addresses are held, but not taken: they could be handed out again.
	Unguarded []netipx.IPRange
	// Shared prefixes are held, and overlap with what another owner holds. Each second one is listed.
	Shared []Allocation
	// Foreign prefixes are held, but are none that the pool hands out.
	Foreign []Allocation
	// Unreadable says why the head's free space could not be read; nil if it could.
	Unreadable error
}

// OK tells whether nothing is wrong.
func (r Report) OK() bool {
	return len(r.Leaked) == 0 && len(r.Unguarded) == 0 && len(r.Shared) == 0 && len(r.Foreign) == 0 && r.Unreadable == nil
}

// String says what is wrong, in one line, or "ok" with the number of allocations.
func (r Report) String() string {
	if r.OK() {
		return fmt.Sprintf("ok, %d allocations", r.Allocations)
	}
	text := fmt.Sprintf("%d allocations; leaked %v, unguarded %v, shared %v, foreign %v",
		r.Allocations, r.Leaked, r.Unguarded, r.Shared, r.Foreign)
	if r.Unreadable != nil {
		text += fmt.Sprintf(", unreadable: %v", r.Unreadable)
	}
	return text
}

// Verify compares the free space in the pool's head with all that owners hold, both as of one moment. Calls that change the pool
// through this handle wait meanwhile; other handles do not.
//
// Errors: [ErrBusy] if other processes changed the pool each time before all was read; those of the store. What it
// finds is no error; see [Report.OK]. Cost: O(allocations).
func (p *Pool) Verify(ctx context.Context) (Report, error) {
	var report Report
	err := p.exclusively(ctx, func(ctx context.Context) (err error) {
		report, _, err = p.audit(ctx)
		return err
	})
	return report, p.failed("verify", "", err)
}

// Repair is [Pool.Verify], and then makes the free space in the head what the allocations say, in one commit. It returns what it found
// before. Allocations stay as they are: of those that share an address an operator releases all but one, and then repairs again, since
// each release frees the address. What is Foreign can be released like anything else.
//
// It also restores a free space that cannot be read, but not a head without a readable spec.
//
// Errors and cost: as for [Pool.Verify].
func (p *Pool) Repair(ctx context.Context) (Report, error) {
	var report Report
	err := p.exclusively(ctx, func(ctx context.Context) (err error) {
		for range p.options.Attempts {
			report, err = p.repair(ctx)
			if !errors.Is(err, store.ErrConflict) {
				return err
			}
		}
		return fmt.Errorf("%w: %d attempts", ErrBusy, p.options.Attempts)
	})
	return report, p.failed("repair", "", err)
}

func (p *Pool) repair(ctx context.Context) (Report, error) {
	report, rebuilt, err := p.audit(ctx)
	if err != nil || len(report.Leaked) == 0 && len(report.Unguarded) == 0 && report.Unreadable == nil {
		return report, err
	}
	p.options.Logger.Warn("repairing the free space of a pool", slog.String("pool", p.name), slog.String("found", report.String()))
	return report, p.replaceSpaces(ctx, rebuilt)
}

// exclusively calls f while no other call changes the pool through this handle.
func (p *Pool) exclusively(ctx context.Context, f func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if p.store == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		return f(ctx)
	}
	_, err := p.submit(&op{ctx: ctx, kind: opExclusive, run: func(context.Context) error { return f(ctx) }})
	return err
}

// audit compares, and returns a ledger made from the allocations alone.
func (p *Pool) audit(ctx context.Context) (Report, *ledger, error) {
	if p.store == nil {
		return compare(p.ledger, p.ledger.spec, p.heldInMemory())
	}
	for range p.options.Attempts {
		unreadable := p.reload(ctx)
		if unreadable != nil && !errors.Is(unreadable, ErrCorrupt) {
			return Report{}, nil, unreadable
		}
		head, err := getHead(ctx, p.store, p.name)
		if err != nil {
			return Report{}, nil, err
		}
		_, spec, err := parseHead(head)
		if err != nil {
			return Report{}, nil, err
		}
		resolved, err := resolveSpec(spec)
		if err != nil {
			return Report{}, nil, badSpec(err)
		}
		report, rebuilt, err := compare(p.ledger, resolved, p.heldInStore(ctx))
		if err != nil {
			return report, nil, err
		}
		again, err := getHead(ctx, p.store, p.name)
		if err != nil {
			return report, nil, err
		}
		if again.Revision == head.Revision && (p.ledger == nil || p.head.Revision == head.Revision) {
			p.head = head
			report.Unreadable = unreadable
			return report, rebuilt, nil
		}
	}
	return Report{}, nil, fmt.Errorf("%w: the pool did not stay the same for long enough to read it all", ErrBusy)
}

// reload reads the head and its pieces anew, trusting nothing that this handle remembers.
func (p *Pool) reload(ctx context.Context) error {
	p.ledger = nil
	return p.refresh(ctx)
}

func (p *Pool) heldInMemory() iter.Seq2[Allocation, error] {
	return func(yield func(Allocation, error) bool) {
		for _, a := range p.held {
			if !yield(*a, nil) {
				return
			}
		}
	}
}

func (p *Pool) heldInStore(ctx context.Context) iter.Seq2[Allocation, error] {
	return func(yield func(Allocation, error) bool) {
		for record, err := range p.store.List(ctx, store.KindAllocation, p.name) {
			if !yield(allocationOf(record), err) {
				return
			}
		}
	}
}

// compare holds a ledger, which is nil if it could not be read, against allocations.
func compare(l *ledger, spec *resolvedSpec, held iter.Seq2[Allocation, error]) (Report, *ledger, error) {
	var report Report
	rebuilt, err := newLedger(spec)
	if err != nil {
		return report, nil, err
	}
	for a, err := range held {
		if err != nil {
			return report, nil, err
		}
		report.Allocations++
		for _, prefix := range a.Prefixes {
			report.mark(rebuilt, a, prefix)
		}
	}
	if l == nil {
		return report, rebuilt, nil
	}
	for i, s := range l.spaces {
		taken, want := setOf(s.free.TakenRanges()), setOf(rebuilt.spaces[i].free.TakenRanges())
		report.Leaked = append(report.Leaked, cidr.Difference(taken, want).Ranges()...)
		report.Unguarded = append(report.Unguarded, cidr.Difference(want, taken).Ranges()...)
	}
	return report, rebuilt, nil
}

func setOf(ranges iter.Seq[netipx.IPRange]) *netipx.IPSet {
	return cidr.SetOf(slices.Collect(ranges)...)
}

// mark takes a prefix that a holds.
func (r *Report) mark(l *ledger, a Allocation, prefix netip.Prefix) {
	only := Allocation{Owner: a.Owner, Prefixes: []netip.Prefix{prefix}, Generation: a.Generation, Created: a.Created}
	i := l.spec.index(FamilyOf(prefix.Addr()))
	switch {
	case i < 0 || !l.spaces[i].free.Covers(prefix):
		r.Foreign = append(r.Foreign, only)
	case !l.spaces[i].free.IsFree(prefix):
		r.Shared = append(r.Shared, only)
	}
	if i >= 0 {
		l.spaces[i].takeRest(prefix)
	}
}

// takeRest takes what is free of a prefix.
func (s *space) takeRest(prefix netip.Prefix) {
	if s.free.Take(prefix) == nil || s.free.FreeIn(netipx.RangeOfPrefix(prefix)).IsZero() {
		return
	}
	addr, bits := prefix.Addr(), prefix.Bits()+1
	s.takeRest(netip.PrefixFrom(addr, bits))
	s.takeRest(netip.PrefixFrom(netipx.PrefixLastIP(prefix), bits).Masked())
}

// replaceSpaces commits a head with the free space of l, and drops the records of all earlier pieces.
func (p *Pool) replaceSpaces(ctx context.Context, l *ledger) error {
	if p.store == nil {
		p.ledger = l
		return nil
	}
	d := &draft{pool: p.name, base: p.head.Revision}
	for record, err := range p.store.List(ctx, store.KindSpace, p.name) {
		if err != nil {
			return err
		}
		d.writes = append(d.writes, store.Write{Op: store.Delete, Record: store.Record{Key: record.Key}})
	}
	data, pieces, err := l.nextHead(d)
	if err != nil {
		return err
	}
	head := p.head
	head.Data = data
	p.ledger = nil
	if head, err = p.store.Commit(ctx, head, d.writes); err != nil {
		return err
	}
	l.committed(pieces)
	p.ledger, p.head = l, head
	return nil
}
