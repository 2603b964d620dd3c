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
	// OutOfRange prefixes are held, or cool down, but are not, or not wholly, what the pool hands out. That is nothing wrong: see [Pool.Drain].
	OutOfRange []Allocation
	// Miscounted says which counts in the head are not those of the records; empty if all are.
	Miscounted []string
	// Unreadable says why the head's free space could not be read; nil if it could.
	Unreadable error
}

// OK tells whether nothing is wrong.
func (r Report) OK() bool {
	return len(r.Leaked) == 0 && len(r.Unguarded) == 0 && len(r.Shared) == 0 && len(r.Miscounted) == 0 && r.Unreadable == nil
}

// String says what is wrong, in one line, or "ok" with the number of allocations.
func (r Report) String() string {
	if r.OK() {
		return fmt.Sprintf("ok, %d allocations", r.Allocations)
	}
	text := fmt.Sprintf("%d allocations; leaked %v, unguarded %v, shared %v, miscounted %v",
		r.Allocations, r.Leaked, r.Unguarded, r.Shared, r.Miscounted)
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
// each release frees the address.
//
// It also restores a free space that cannot be read, but not a head without a readable spec.
//
// Errors and cost: as for [Pool.Verify].
func (p *Pool) Repair(ctx context.Context) (Report, error) {
	var report Report
	err := p.exclusively(ctx, func(ctx context.Context) error {
		return p.retry(ctx, func() (err error) {
			report, err = p.repair(ctx)
			return err
		})
	})
	return report, p.failed("repair", "", err)
}

func (p *Pool) repair(ctx context.Context) (Report, error) {
	report, rebuilt, err := p.audit(ctx)
	if err != nil || len(report.Leaked) == 0 && len(report.Unguarded) == 0 && len(report.Miscounted) == 0 && report.Unreadable == nil {
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
	return p.submit(&op{ctx: ctx, run: func(context.Context) error { return f(ctx) }})
}

// audit compares, and returns a ledger made from the allocations alone.
func (p *Pool) audit(ctx context.Context) (Report, *ledger, error) {
	if p.store == nil {
		l, err := newLedger(p.ledger.spec, p.options.Random)
		if err != nil {
			return Report{}, nil, err
		}
		report, err := compare(p.ledger, l, p.allInMemory())
		return report, l, err
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
		data, spec, err := parseHead(head)
		if err != nil {
			return Report{}, nil, err
		}
		rebuilt, err := data.ledger(spec, p.options.Random)
		if err != nil {
			return Report{}, nil, err
		}
		report, err := compare(p.ledger, rebuilt, p.all(ctx))
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

// compare holds a ledger, which is nil if it could not be read, against records, which it puts into rebuilt, an empty one.
func compare(l, rebuilt *ledger, records iter.Seq2[*holding, error]) (Report, error) {
	var report Report
	for h, err := range records {
		if err != nil {
			return report, err
		}
		if h.live() {
			report.Allocations++
		}
		for _, prefix := range h.Prefixes {
			if !rebuilt.covers([]netip.Prefix{prefix}) {
				report.OutOfRange = append(report.OutOfRange, h.only(prefix))
			}
		}
		for _, prefix := range rebuilt.hold(h) {
			report.Shared = append(report.Shared, h.only(prefix))
		}
	}
	if l == nil {
		return report, nil
	}
	for i, t := range rebuilt.tallies.families {
		rebuilt.tallies.families[i].cursor = l.tallies.families[i].cursor
		report.count("cooling "+families[i].String(), l.tallies.families[i].cooling, t.cooling)
		report.count("out of range "+families[i].String(), l.tallies.families[i].outOfRange, t.outOfRange)
	}
	report.count("records that expire", l.tallies.expiring, rebuilt.tallies.expiring)
	report.count("records aside", l.tallies.strays, rebuilt.tallies.strays)
	for i, s := range l.spaces {
		taken, want := setOf(s.free.TakenRanges()), setOf(rebuilt.spaces[i].free.TakenRanges())
		report.Leaked = append(report.Leaked, cidr.Difference(taken, want).Ranges()...)
		report.Unguarded = append(report.Unguarded, cidr.Difference(want, taken).Ranges()...)
	}
	return report, nil
}

func (r *Report) count(what string, head, records any) {
	if head != records {
		r.Miscounted = append(r.Miscounted, fmt.Sprintf("%s: %v in the head, %v in the records", what, head, records))
	}
}

// only is the part of an allocation that is about one prefix.
func (h *holding) only(prefix netip.Prefix) Allocation {
	return Allocation{Owner: h.Owner, Prefixes: []netip.Prefix{prefix}, Generation: h.Generation, Created: h.Created}
}

func setOf(ranges iter.Seq[netipx.IPRange]) *netipx.IPSet {
	return cidr.SetOf(slices.Collect(ranges)...)
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
	d := p.draft()
	for record, err := range p.store.List(ctx, store.KindSpace, p.name) {
		if err != nil {
			return err
		}
		d.writes = append(d.writes, store.Write{Op: store.Delete, Record: store.Record{Key: record.Key}})
	}
	next, err := p.finishDraft(l, d)
	if err != nil {
		return err
	}
	p.ledger = nil
	head, err := p.commitOne(ctx, next.change.Head, next.change.Writes)
	if err != nil {
		return err
	}
	p.ledger = l
	p.committed(head, next)
	return nil
}
