package pool

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool/internal/space"
	"github.com/ipalloc/ipalloc/store"
)

// Report is what [Pool.Verify] found: whether the addresses that are taken according to the head are those that owners
// hold. In a pool that only this package has written they are, after any crash. It belongs to the caller. The zero
// Report is that of an empty pool.
type Report struct {
	// Allocations is the number of owners that hold something.
	Allocations int
	// Leaked addresses are taken, but no owner holds them: they cannot be handed out.
	Leaked []netipx.IPRange
	// Unguarded addresses are held, but not taken: they could be handed out again.
	Unguarded []netipx.IPRange
	// Shared prefixes are held, and overlap with what another owner holds. Of two that overlap the second is listed.
	Shared []Allocation
	// OutOfRange prefixes are held or cooling down, but lie wholly or partly outside what the pool hands out. This is
	// not an error: see [Pool.Drain].
	OutOfRange []Allocation
	// Miscounted names the counts in the head that differ from those of the records; empty if none does.
	Miscounted []string
	// Misshared names the shares whose record does not list just the owners that hold what it has, or that an owner holds
	// something else of; empty if there is none. See [Claim.Share].
	Misshared []string
	// Damaged are the errors of records that cannot be read, or that the store overlooks when it lists them, each with
	// the name of the record. What an unreadable record holds is unknown.
	Damaged []error
	// Unreadable says why the head's free space could not be read; nil if it could.
	Unreadable error
}

// OK reports whether nothing is wrong.
func (r Report) OK() bool {
	return len(r.Leaked) == 0 && len(r.Unguarded) == 0 && len(r.Shared) == 0 && len(r.Miscounted) == 0 &&
		len(r.Misshared) == 0 && len(r.Damaged) == 0 && r.Unreadable == nil
}

// String says in one line what is wrong, or "ok" with the number of allocations.
func (r Report) String() string {
	if r.OK() {
		return fmt.Sprintf("ok, %d allocations", r.Allocations)
	}
	text := fmt.Sprintf("%d allocations; leaked %v, unguarded %v, shared %v, miscounted %v",
		r.Allocations, brief(r.Leaked), brief(r.Unguarded), briefList(r.Shared), r.Miscounted)
	if len(r.Misshared) > 0 {
		text += fmt.Sprintf(", misshared %v", brief(r.Misshared))
	}
	if len(r.Damaged) > 0 {
		text += fmt.Sprintf(", %v", &store.DamagedError{Damaged: r.Damaged})
	}
	if r.Unreadable != nil {
		text += fmt.Sprintf(", unreadable: %v", r.Unreadable)
	}
	return text
}

// Verify compares the free space in the pool's head with everything that owners hold, as of one moment. Calls that
// change the pool through this handle wait meanwhile; other handles do not.
//
// Errors: [ErrBusy] if other processes changed the pool each time before all was read; [ErrNoPool], together with
// [ErrOrphaned] if only the head is gone; those of the store. What Verify finds is in the Report, not in the error; see
// [Report.OK]. Cost: O(allocations); O(records in the store) if the store finds records by an index that people can
// change, such as labels.
func (p *Pool) Verify(ctx context.Context) (Report, error) {
	var report Report
	err := exclusively(ctx, func(a *attempt) (err error) {
		report, _, _, err = a.audit(p)
		return err
	}, p)
	return report, p.failed("verify", "", err)
}

// Repair does what [Pool.Verify] does, and then makes the free space in the head agree with the allocations, in one
// commit. It returns what it found before the repair. Allocations stay as they are. If several owners share an address,
// release all but one of them and repair again, because each release frees the address.
//
// Repair also restores free space that cannot be read, but not a head whose spec cannot be read. While there are
// [Report.Damaged] records, leaked addresses stay taken: a damaged record may hold them.
//
// Errors and cost: as for [Pool.Verify]; also [ErrCorrupt] if neither the free space nor all records can be read.
func (p *Pool) Repair(ctx context.Context) (Report, error) {
	var report Report
	err := exclusively(ctx, func(a *attempt) error {
		found, rebuilt, writes, err := a.audit(p)
		if err != nil {
			return err
		}
		if !a.uncertain() { // else an earlier attempt may have repaired it
			report = found
		}
		if !found.repairable() {
			return nil
		}
		p.options.Logger.Warn("repairing the free space of a pool",
			slog.String("pool", p.name), slog.String("found", found.String()))
		if found.Unreadable != nil && len(found.Damaged) > 0 {
			return fmt.Errorf("%w: %w; nor can all records be read: %w",
				ErrCorrupt, found.Unreadable, &store.DamagedError{Damaged: found.Damaged})
		}
		d := a.draft(p)
		for _, w := range writes {
			w.holding.Beside = rebuilt.rules.beside(w.holding)
		}
		d.next, d.writes = rebuilt, writes
		return a.dropAllPieces(d)
	}, p)
	return report, p.failed("repair", "", err)
}

// repairable reports whether anything is wrong with the head.
func (r Report) repairable() bool {
	return len(r.Leaked) > 0 || len(r.Unguarded) > 0 || len(r.Miscounted) > 0 ||
		len(r.Misshared) > 0 && len(r.Damaged) == 0 || r.Unreadable != nil
}

// dropAllPieces plans that all records of free space go that the store has, whichever the head names.
func (a *attempt) dropAllPieces(d *draft) error {
	for key, err := range d.pool.home.spaceRecords(a.ctx) {
		if err != nil {
			return err
		}
		d.others = append(d.others, store.Write{Op: store.Delete, Record: store.Record{Key: key}})
	}
	return nil
}

// audit compares the pool's head with its records, and returns a state made from the records alone, with the writes
// that mend the records of shares.
func (a *attempt) audit(p *Pool) (Report, *state, []write, error) {
	for range p.options.Attempts {
		unreadable := p.home.reread(a.ctx)
		if unreadable != nil && !errors.Is(unreadable, ErrCorrupt) {
			if errors.Is(unreadable, ErrNoPool) {
				unreadable = p.home.withOrphans(a.ctx, unreadable)
			}
			return Report{}, nil, nil, unreadable
		}
		rebuilt, err := p.home.blank(a.ctx)
		if err != nil {
			return Report{}, nil, nil, err
		}
		report, writes, err := compare(p.home.state(), rebuilt, p.home.audited(a.ctx))
		if err != nil {
			return report, nil, nil, err
		}
		same, err := p.home.isAt(a.ctx, p.home.revision())
		if err != nil {
			return report, nil, nil, err
		}
		if same {
			report.Unreadable = unreadable
			return report, rebuilt, writes, nil
		}
	}
	return Report{}, nil, nil, fmt.Errorf("%w: the pool did not stay the same for long enough to read it all", ErrBusy)
}

// compare compares the state now, nil if it could not be read, with the records, and adds these
// to rebuilt, which starts empty. It returns the writes that mend the records of shares; none if records are damaged.
func compare(now, rebuilt *state, records iter.Seq2[*holding, error]) (Report, []write, error) {
	var report Report
	var shares sharing
	for h, err := range records {
		if found := damaged(err); len(found) > 0 {
			report.Damaged = append(report.Damaged, found...)
		} else if err != nil {
			return report, nil, err
		}
		if h == nil {
			continue
		}
		h = rebuilt.rules.current(h)
		if h.live() {
			report.Allocations++
		}
		if shares.add(h) && h.shared {
			continue
		}
		for _, prefix := range h.Prefixes {
			if !rebuilt.space.Covers(prefix) {
				report.OutOfRange = append(report.OutOfRange, h.only(prefix))
			}
		}
		for _, prefix := range rebuilt.hold(h) {
			report.Shared = append(report.Shared, h.only(prefix))
		}
	}
	report.Shared = append(report.Shared, shares.hold(rebuilt)...)
	rebuilt.space.Keep()
	writes, wrong := shares.repairs()
	if report.Misshared = wrong; len(report.Damaged) > 0 { // they may be of owners that a share lists
		writes = nil
	}
	if now == nil {
		return report, writes, nil
	}
	rebuilt.space.KeepCursors(now.space)
	for _, f := range families {
		i := f.inSpace()
		report.count("cooling "+f.String(), now.space.InUse(i, space.Cooling), rebuilt.space.InUse(i, space.Cooling))
		report.count("kept "+f.String(), now.space.InUse(i, space.Kept), rebuilt.space.InUse(i, space.Kept))
		report.count("out of range "+f.String(), now.space.OutOfRange(i), rebuilt.space.OutOfRange(i))
		taken, want := now.space.TakenSet(i), rebuilt.space.TakenSet(i)
		report.Leaked = append(report.Leaked, cidr.Difference(taken, want).Ranges()...)
		report.Unguarded = append(report.Unguarded, cidr.Difference(want, taken).Ranges()...)
	}
	report.count("owned addresses", fmt.Sprint(now.space.Owned()), fmt.Sprint(rebuilt.space.Owned()))
	rebuilt.keepLeaked(report)
	if len(report.Damaged) > 0 { // it cannot be told how many of them are held
		for _, c := range []space.Counter{space.Holding, space.Shared} {
			rebuilt.space.Add(c, now.space.Tally(c)-rebuilt.space.Tally(c))
		}
	}
	for counter, what := range [...]string{
		space.Expiring: "records that expire", space.Aside: "records aside", space.Delegated: "records that were delegated",
		space.Holding: "holders", space.Reserved: "reservations", space.Shared: "shares",
	} {
		report.count(what, now.space.Tally(space.Counter(counter)), rebuilt.space.Tally(space.Counter(counter)))
	}
	return report, writes, nil
}

// keepLeaked takes what is leaked, if there are damaged records: they may hold it.
func (s *state) keepLeaked(r Report) {
	if len(r.Damaged) == 0 {
		return
	}
	for _, leaked := range r.Leaked {
		for _, prefix := range leaked.Prefixes() {
			s.space.Hold(prefix, space.Held)
		}
	}
	s.space.Keep()
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
