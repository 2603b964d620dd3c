package pool

import (
	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool/internal/space"
)

// Stats counts the addresses of one family of a pool. Total is the sum of Reserved, Used, Cooling, Kept and Free. It is
// a value; it may be copied and compared.
type Stats struct {
	Family Family `json:"family"`
	// Total is the number of addresses in the ranges.
	Total cidr.Count `json:"total"`
	// Reserved is the number of addresses that are never handed out: excluded, external and withheld ones, gateways,
	// and the first and last ones of subnets.
	Reserved cidr.Count `json:"reserved"`
	// Used is the number of addresses that are held. It includes those of leases that have ended, until a claim needs
	// them; see [Pool.Expire].
	Used cidr.Count `json:"used"`
	// Cooling is the number of addresses that were released and are still withheld; see [Spec.Cooldown].
	Cooling cidr.Count `json:"cooling,omitzero"`
	// Kept is the number of addresses that are kept for owners that do not hold them; see [Pool.Reserve].
	Kept cidr.Count `json:"kept,omitzero"`
	// Free is the number of the remaining addresses.
	Free cidr.Count `json:"free"`
	// OutOfRange is the number of addresses that are held, cooling down or kept but, since [Pool.Drain] changed the
	// pool, are not in Total or are Reserved. Such addresses are also called stranded. They are never handed out again.
	OutOfRange cidr.Count `json:"outOfRange,omitzero"`
}

// statsOf are counts of the free space as this package has them.
func statsOf(counts []space.Counts) []Stats {
	return appendStats(make([]Stats, 0, len(counts)), counts)
}

func appendStats(stats []Stats, counts []space.Counts) []Stats {
	for _, c := range counts {
		stats = append(stats, Stats{
			Family: families[c.Family], Total: c.Total, Reserved: c.Reserved, Used: c.Used, Cooling: c.Cooling, Kept: c.Kept,
			Free: c.Free, OutOfRange: c.OutOfRange,
		})
	}
	return stats
}

// countsOf are the counts of one family; all zero if there are none.
func countsOf(stats []Stats, family Family) Stats {
	for _, s := range stats {
		if s.Family == family {
			return s
		}
	}
	return Stats{Family: family}
}
