package leases

import (
	"context"
	"iter"
	"slices"

	"github.com/ipalloc/ipalloc/adopt"
	"github.com/ipalloc/ipalloc/pool"
)

// Adopt takes over leases that other servers have given, as adopt.Into does: the pools are those of all networks. A
// lease of an address that is reserved for the client is under the reservation's name.
func (l *Leases) Adopt(ctx context.Context, entries adopt.Entries) iter.Seq2[adopt.Result, error] {
	var pools []*pool.Pool
	for _, n := range l.Networks {
		for _, s := range n.Sources() {
			pools = append(pools, s.Pool)
		}
	}
	ours := func(yield func(adopt.Entry, error) bool) {
		for e, err := range entries {
			if err == nil {
				e = l.ours(e)
			}
			if !yield(e, err) {
				return
			}
		}
	}
	return adopt.Into(ctx, pools, ours, &adopt.Options{Clock: l.clock})
}

// ours is the entry with the labels that leases have here, and with the owner of a reservation if it is that.
func (l *Leases) ours(e adopt.Entry) adopt.Entry {
	kind, client := V4, Client{Hostname: e.Labels["hostname"]}
	for _, name := range []struct{ label, prefix string }{{"hardware", "hw:"}, {"client-id", "id:"}, {"duid", "duid:"}} {
		if value := e.Labels[name.label]; value != "" {
			client.Names = append(client.Names, name.prefix+value)
		}
	}
	if hardware := e.Labels["hardware"]; hardware != "" {
		client.Hardware = client.Names[0]
	}
	switch e.Labels["ia"] {
	case "na", "ta":
		kind = NA
	case "pd":
		kind = PD
	}
	e.Labels = labelsOf(client)
	for _, n := range l.Networks {
		if r, ok := n.reservationOf(kind, client.Names); ok && slices.Contains(e.Prefixes, r.prefix) {
			e.Owner = r.owner
			e.Labels[fromLabel] = fromConfiguration
		}
	}
	return e
}
