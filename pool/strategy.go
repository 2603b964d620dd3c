package pool

import (
	"fmt"
	"net/netip"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
)

// Strategy says which free prefix a request gets, of all that it could have.
type Strategy uint8

// The strategies.
const (
	// LowestFree gives the lowest. It is the default: the pool stays packed, which keeps it small, and anybody can tell what comes next.
	LowestFree Strategy = iota
	// NextFree gives the lowest above the one that was given last, and starts again at the bottom when there is none (round robin). So an
	// address that was released is not seen again for as long as possible. Where the last one was is kept in the store.
	NextFree
	// RandomFree gives any, so that nobody can tell what comes next. It tries addresses at random until one is free, up to 16
	// times, so that each free one is as likely as any other unless the pool is nearly full; then it takes the next free one behind the last try.
	RandomFree
)

var strategyNames = [...]string{"lowest", "next", "random"}

// String returns "lowest", "next" or "random".
func (s Strategy) String() string {
	if int(s) < len(strategyNames) {
		return strategyNames[s]
	}
	return fmt.Sprintf("Strategy(%d)", uint8(s))
}

// MarshalText returns what String does. An unknown strategy is an error that wraps [ErrInvalid].
func (s Strategy) MarshalText() ([]byte, error) {
	if int(s) >= len(strategyNames) {
		return nil, invalid("%v is not a strategy", s)
	}
	return []byte(s.String()), nil
}

// UnmarshalText reads what MarshalText writes. Any other text is an error that wraps [ErrInvalid].
func (s *Strategy) UnmarshalText(text []byte) error {
	for i, name := range strategyNames {
		if string(text) == name {
			*s = Strategy(i)
			return nil
		}
	}
	return invalid("%q is not a strategy, want one of %q", text, strategyNames)
}

// search takes a free prefix that lies in one of the ranges, by the strategy of the spec. nil ranges mean the whole family.
func (l *ledger) search(s *space, bits int, ranges []netipx.IPRange) (netip.Prefix, error) {
	switch l.spec.Strategy {
	case NextFree:
		return s.takeFrom(l.tallies.families[s.family.index()].cursor, bits, ranges)
	case RandomFree:
		return s.takeRandom(l.random, bits, ranges)
	default:
		return s.takeLowest(bits, ranges)
	}
}

func (s *space) takeLowest(bits int, ranges []netipx.IPRange) (netip.Prefix, error) {
	if ranges == nil {
		return s.free.TakeFirst(bits)
	}
	return s.free.TakeFirstIn(bits, ranges...)
}

// takeFrom takes the lowest free prefix at addr or above or, if there is none, of all. The zero Addr means the lowest of all.
func (s *space) takeFrom(addr netip.Addr, bits int, ranges []netipx.IPRange) (netip.Prefix, error) {
	if !addr.IsValid() {
		return s.takeLowest(bits, ranges)
	}
	var p netip.Prefix
	var err error
	if ranges == nil {
		p, err = s.free.TakeFirstFrom(addr, bits)
	} else {
		p, err = s.free.TakeFirstIn(bits, above(addr, ranges)...)
	}
	if err == nil {
		return p, nil
	}
	return s.takeLowest(bits, ranges)
}

// above are the parts of the ranges at addr and above.
func above(addr netip.Addr, ranges []netipx.IPRange) []netipx.IPRange {
	var parts []netipx.IPRange
	for _, r := range ranges {
		switch {
		case r.To().Less(addr):
		case r.From().Less(addr):
			parts = append(parts, netipx.IPRangeFrom(addr, r.To()))
		default:
			parts = append(parts, r)
		}
	}
	return parts
}

// randomTries is how often an address is picked before the next free one is taken. With half of the pool free, one of 65,536 claims
// comes to that.
const randomTries = 16

func (s *space) takeRandom(random func() uint64, bits int, ranges []netipx.IPRange) (netip.Prefix, error) {
	set := s.set
	if ranges != nil {
		set = cidr.SetOf(ranges...)
	}
	size := cidr.Size(set)
	var last netip.Addr
	for range randomTries {
		addr, ok := cidr.Nth(set, randomBelow(random, size))
		if !ok {
			break
		}
		last = addr
		p := netip.PrefixFrom(addr, bits).Masked()
		if p.IsValid() && (ranges == nil || set.ContainsPrefix(p)) && s.free.IsFree(p) && s.free.Take(p) == nil {
			return p, nil
		}
	}
	return s.takeFrom(last, bits, ranges)
}

// randomBelow returns a number from 0 up to but without size, each as likely as any other; 0 if size is 0.
func randomBelow(random func() uint64, size cidr.Count) cidr.Count {
	for width := size.BitLen(); ; {
		n := cidr.Count128(random(), random()).Low(width)
		if n.Cmp(size) < 0 || size.IsZero() {
			return n
		}
	}
}
