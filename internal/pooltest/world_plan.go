package pooltest

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/internal/journal"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// The pools of a [World], all in one network. The processes move a range to and fro between the two roots, delegate the
// child out of one of them again and again, and take blocks of the other one.
const (
	worldNetwork   = "net"
	worldBlue      = "blue"
	worldGreen     = "green"
	worldChild     = "child" // of green
	worldDelegater = "delegater"
	worldFence     = "fence" // an owner whose allocation and release come before what was sent earlier
)

var (
	worldMoving = netip.MustParsePrefix("10.0.0.0/28") // the lowest: whoever has it uses it
	worldOwn    = map[string]netip.Prefix{
		worldBlue: netip.MustParsePrefix("10.0.1.0/26"), worldGreen: netip.MustParsePrefix("10.0.2.0/26"),
	}
	worldRoots   = []string{worldBlue, worldGreen}
	worldWriters = []string{"w0", "w1"} // of blocks of blue
)

// How many owners there are of each kind, in each place. They are few, so that processes meet.
const (
	worldPlainOwners    = 4
	worldTogetherOwners = 6
	worldBlockOwners    = 8
)

const worldTTL = time.Hour // no lease ends in a test

// blocksPlace is the place that all blocks of a writer are, and what the names of their pools begin with.
func blocksPlace(writer string) string { return worldBlue + "/" + writer }

// placeOf is the place of a pool.
func placeOf(name string) string {
	for _, writer := range worldWriters {
		if place := blocksPlace(writer); name == place || strings.HasPrefix(name, place+"/") {
			return place
		}
	}
	return name
}

// worldPlaces says what the checker must know of places. What is delegated is in its parent's network.
func worldPlaces() map[string]journal.Place {
	places := map[string]journal.Place{}
	for _, name := range worldRoots {
		places[name] = journal.Place{Network: worldNetwork}
	}
	places[worldChild] = journal.Place{Network: worldNetwork}
	for _, writer := range worldWriters {
		places[blocksPlace(writer)] = journal.Place{Network: worldNetwork, Several: true}
	}
	return places
}

// worldPart is the spec of a pool that is delegated from a root.
var worldPart = pool.Spec{IPv4: pool.FamilySpec{AllocateReserved: true}}

// worldSpec is the spec of a root, with the range that moves or without it.
func worldSpec(name string, moving bool) (spec pool.Spec, ranges []netip.Prefix) {
	ranges = []netip.Prefix{worldOwn[name]}
	if moving {
		ranges = append(ranges, worldMoving)
	}
	spec = pool.Spec{
		Network: worldNetwork, IPv4: pool.FamilySpec{AllocateReserved: true}, History: worldTTL, HistoryMost: worldMost,
	}
	for _, p := range ranges {
		spec.Ranges = append(spec.Ranges, netipx.RangeOfPrefix(p))
	}
	return spec, ranges
}

// worldClaim is the claim of the n-th owner of a kind, always the same one: so asking again must give the same answer.
func worldClaim(kind string, n int) pool.Claim {
	c := pool.Claim{Owner: fmt.Sprintf("%s-%d", kind, n), Labels: nodeLabels(n)}
	switch n % 4 {
	case 1:
		c.Requests = []pool.Request{{}, {}}
	case 2:
		c.Requests = []pool.Request{{Bits: 31}}
	case 3:
		c.TTL = worldTTL
	}
	return c
}

// worldParts are the pools of the n-th owner of a claim over several pools.
func worldParts(n int) [][]string {
	return [][][]string{
		{{worldBlue}, {worldGreen}},
		{{worldBlue}, {worldChild}},
		{{worldBlue, worldGreen}, {worldChild}},
	}[n%3]
}

func delegateClaim() pool.Claim {
	return pool.Claim{Owner: worldDelegater, Requests: []pool.Request{{Bits: 27}}}
}

func blockClaim() pool.Claim { return pool.Claim{Requests: []pool.Request{{Bits: 29}}} }

// outcomeOf is how a call ended that returned the error.
func outcomeOf(err error) journal.Outcome {
	switch {
	case err == nil:
		return journal.Done
	case errors.Is(err, store.ErrUnknown):
		return journal.Unknown
	case errors.Is(err, pool.ErrNoPool):
		return journal.NoPool
	case errors.Is(err, pool.ErrNotFound):
		return journal.Nothing
	}
	return journal.Failed
}

// holdingIn is an allocation as the journal keeps it.
func holdingIn(place string, a pool.Allocation) journal.Holding {
	h := journal.Holding{Place: place, Owner: a.Owner, Prefixes: a.Prefixes, Generation: a.Generation}
	if a.Child != "" {
		h.Child = placeOf(a.Child)
	}
	return h
}
