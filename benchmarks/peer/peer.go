// Package peer puts allocators of other projects, and this library, behind one small interface, so that the same work
// can be run on each. There is one file a peer. Each uses the peer as its documentation and its own callers do.
package peer

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"time"
)

// Peer is one allocator. The functions that are nil are for work that it cannot do.
type Peer struct {
	// Name is short and unique: the heading of a column.
	Name string
	// Module is the path of the module that it comes from.
	Module string
	// Package is what of the module is measured.
	Package string
	// Order says which free address or prefix it hands out.
	Order Order
	// Note says in what its semantics differ from those of the others.
	Note string
	// Absent is why nothing of it is measured; empty if something is.
	Absent string

	// NewSpace makes an empty space in memory.
	NewSpace func(Shape) (Space, error)
	// NewOwners makes an empty pool in memory whose addresses are held by owners.
	NewOwners func(netip.Prefix) (Owners, error)
}

// Order is which of the free addresses or prefixes is handed out next.
type Order string

// The orders that peers have.
const (
	Lowest Order = "lowest free"
	Next   Order = "next after the last"
	Random Order = "random"
	Any    Order = "any"
)

// Shape is a space and what is handed out of it.
type Shape struct {
	Prefix netip.Prefix
	// Bits is the length of what is handed out: 32 or 128 for addresses; 0 for mixed lengths.
	Bits int
}

// Addresses is the shape of a prefix whose single addresses are handed out.
func Addresses(prefix string) Shape {
	p := netip.MustParsePrefix(prefix)
	return Shape{p, p.Addr().BitLen()}
}

// Prefixes is the shape of a prefix that is cut into smaller ones of one length; 0 is for mixed lengths.
func Prefixes(prefix string, bits int) Shape { return Shape{netip.MustParsePrefix(prefix), bits} }

// Single reports whether the shape is for single addresses.
func (s Shape) Single() bool { return s.Bits == s.Prefix.Addr().BitLen() }

// Space hands out prefixes, of which an address is the longest. It is used by one goroutine.
type Space interface {
	// Take takes a free prefix of the length.
	Take(bits int) (netip.Prefix, error)
	// Release frees what was taken by Take or Fill.
	Release(p netip.Prefix) error
	// Fill takes these in the fastest way that the peer offers. It is called once, before all else.
	Fill(ctx context.Context, held []netip.Prefix) error
}

// Snapshotter is a Space that can encode itself, as for a store.
type Snapshotter interface {
	// Snapshot encodes the space, decodes it, and returns the number of bytes in between.
	Snapshot() (int, error)
}

// Owners hands out addresses to owners. It is used by any number of goroutines.
type Owners interface {
	Allocate(ctx context.Context, owner string) (netip.Addr, error)
	Release(ctx context.Context, owner string) error
}

// ErrCannot says that a peer cannot do a case. The message says why.
var ErrCannot = errors.New("cannot")

// ErrSlow says that preparing a case takes too long. The message says how long it would take.
var ErrSlow = errors.New("too slow")

// cannot is an ErrCannot with the reason.
func cannot(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCannot, fmt.Sprintf(format, args...))
}

// Each takes one after the other until the context ends. It gives up early once it is clear that
// there is not enough time for all.
func Each[T any](ctx context.Context, all []T, take func(T) error) error {
	const stride = 64
	start := time.Now()
	for i, one := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		if i%stride == stride-1 {
			if err := foresee(ctx, start, i, len(all)); err != nil {
				return err
			}
		}
		if err := take(one); err != nil {
			return fmt.Errorf("filling %v: %w", one, err)
		}
	}
	return nil
}

// foresee reports whether all will be done in time, once that can be judged: after a tenth of the time. What has been
// done must not go on getting slower for it to be right, so it errs in favour of the peer.
func foresee(ctx context.Context, start time.Time, done, all int) error {
	deadline, bounded := ctx.Deadline()
	if !bounded {
		return nil
	}
	spent, allowed := time.Since(start), deadline.Sub(start)
	if spent < allowed/10 {
		return nil
	}
	if total := time.Duration(float64(spent) / float64(done) * float64(all)); total > allowed {
		return fmt.Errorf("%w: filling takes over %v", ErrSlow, total.Round(time.Second))
	}
	return nil
}

// All are the peers in the order in which they are shown, this library first.
func All() []Peer {
	return []Peer{
		thisLibrary(), floor(), kubernetes(), nodeCIDRs(), cilium(), ciliumHash(), moby(),
		goIPAM(), hostLocal(), netipxByHand(), netipxSet(), flatBitset(), metalLB(), whereabouts(), inCluster(),
	}
}

// Versions are the versions of the modules that this program was built with, by path. The library itself has none.
func Versions() map[string]string {
	versions := make(map[string]string)
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			versions[m.Path] = m.Version
		}
	}
	return versions
}
