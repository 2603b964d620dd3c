package leases

import (
	"net/netip"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/examples/dhcp/internal/config"
	"github.com/ipalloc/ipalloc/pool"
)

// reservation is what the configuration keeps for a client.
type reservation struct {
	source   *Source
	owner    string
	prefix   netip.Prefix
	hostname string
}

// names returns the name by which a reservation knows its client.
func clientOf(r config.Reservation) string {
	switch {
	case r.Hardware != "":
		return "hw:" + string(r.Hardware)
	case r.ClientID != "":
		return "id:" + string(r.ClientID)
	}
	return "duid:" + string(r.DUID)
}

// reserve keeps what the configuration says.
func (n *Network) reserve() {
	for kind, sources := range n.sources {
		n.reserved[kind] = map[string]reservation{}
		for _, s := range sources {
			for _, r := range s.Subnet.Reservations {
				prefix := r.Prefix
				if kind != PD && r.Address.IsValid() {
					prefix = netip.PrefixFrom(r.Address, r.Address.BitLen())
				}
				if prefix.IsValid() && s.Within.Contains(prefix.Addr()) && (kind == PD) == (prefix == r.Prefix) {
					owner := clientOf(r)
					n.reserved[kind][owner] = reservation{source: s, owner: owner, prefix: prefix, hostname: r.Hostname}
				}
			}
		}
	}
}

// reservationOf returns what is kept for a client that has these names. A reservation for its hardware comes first: that
// is the name that it has before it has booted a system, too.
func (n *Network) reservationOf(kind Kind, names []string) (reservation, bool) {
	for _, name := range names {
		if r, ok := n.reserved[kind][name]; ok {
			return r, true
		}
	}
	return reservation{}, false
}

// keptBand is a band of the reserved addresses: only a claim for exactly one of them gets it, and the server makes that
// claim only for the client of the reservation.
func keptBand(ranges []netipx.IPRange) []pool.Band {
	if len(ranges) == 0 {
		return nil
	}
	return []pool.Band{{Name: "reservations", Ranges: ranges, Exclusive: true}}
}
