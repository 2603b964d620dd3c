package pool

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/ipalloc/ipalloc/pool/internal/space"
	"github.com/ipalloc/ipalloc/store"
)

// Allocation is what an owner holds.
//
// The zero Allocation is none. An Allocation may be copied; the copy shares Prefixes and Labels, which belong to the
// caller.
type Allocation struct {
	// Owner is the owner that holds it.
	Owner string
	// Prefixes are what is held, in the order of the claim's requests. For a request for both families the primary one
	// comes first. A single address is a prefix of 32 or 128 bits.
	Prefixes []netip.Prefix
	// Beside are what the owner holds beside them while the pool is renumbered: for each of Prefixes that moves the new
	// one, in their order. nil if nothing moves. See [Pool.Renumber].
	Beside []netip.Prefix
	// Generation distinguishes this grant from every other one, past or future, of the owner in this pool. It is the
	// revision of the pool at the grant. Renewing a lease keeps it.
	Generation int64
	// Created is when it was granted, in UTC, to the microsecond.
	Created time.Time
	// Expires is when the lease ends, in UTC, to the microsecond; zero for a permanent allocation. A lease that has
	// ended is still listed, and still belongs to its owner, until a claim needs its addresses or [Pool.Expire] is
	// called. For an allocation that is cooling down, Expires is when the cooldown ends; see [Snapshot]. For one that is
	// Kept, it is when the cooldown or quarantine ends that its last release began; zero if there is none.
	Expires time.Time
	// Scope is the scope of the claim.
	Scope string
	// Share is the share key of the claim, by which other owners may hold the same; see [Claim.Share]. Empty if it is held
	// by this owner alone, and once it cools down.
	Share string
	// Labels are those of the claim; nil if it had none.
	Labels map[string]string
	// Declined reports whether an allocation that is cooling down was declined by its owner. Then nobody gets it before
	// Expires, not even that owner; see [Pool.Decline].
	Declined bool
	// Reserved reports whether the addresses are reserved for the owner, who gets them back after a release; see
	// [Pool.Reserve]. Kept reports whether the owner does not hold them at present.
	Reserved, Kept bool
	// Child is the name of the pool that was delegated from it; see [Delegate]. Empty if there is none.
	Child string
}

// Addrs returns the first address of each prefix. For a single address that is the address itself; for a larger prefix
// it is the network's own address, not a host's.
func (a Allocation) Addrs() []netip.Addr {
	addrs := make([]netip.Addr, len(a.Prefixes))
	for i, p := range a.Prefixes {
		addrs[i] = p.Addr()
	}
	return addrs
}

// Expired reports whether it is a lease that has ended by the time now. At the exact time of Expires it has ended.
func (a Allocation) Expired(now time.Time) bool {
	return !a.Expires.IsZero() && !now.Before(a.Expires)
}

func (a Allocation) clone() Allocation {
	a.unshare()
	return a
}

// unshare makes what the allocation refers to its own.
func (a *Allocation) unshare() {
	a.Prefixes, a.Beside, a.Labels = slices.Clone(a.Prefixes), slices.Clone(a.Beside), maps.Clone(a.Labels)
}

// holding is a record of the pool: an allocation, or what is left of one while it cools down or is reserved.
// It is never changed, but replaced.
type holding struct {
	Allocation // Expires is when the lease, or the cooldown, ends

	cooling bool         // nobody holds it; if it is Kept, for as long as it is reserved
	stray   bool         // it cools down under its first prefix, since its owner holds something else
	name    netip.Prefix // of what is stray: under which prefix, if the record is not as it is to be
	missing time.Time    // since when [Pool.Reconcile] has not found the owner; zero if it has
	since   time.Time    // since when it has what it has, if the pool was renumbered after the grant; else zero
	was     *holding     // what its record says, if that is still to be written; see [rules.current]
	sharers []string     // of the record of a share: the owners that hold what it has, in the order in which they came
	shared  bool         // it is the record of a share, of which no owner is; see share.go
	planned bool         // its prefixes last no longer than the lead that has planned it
	written int64        // the revision of its record in a store
}

// newHolding returns a holding, and room for its prefix if it has one: both are one object.
func newHolding(a Allocation) (h *holding, room []netip.Prefix) {
	object := &roomy{holding: holding{Allocation: a}}
	return &object.holding, object.room[:]
}

// The states of the records that hold addresses.
const (
	stateAllocated = "allocated"
	stateCooling   = "cooling"
	stateDeclined  = "declined" // as cooling, but its last owner does not get it either
	stateReserved  = "reserved" // for an owner that does not hold it
	stateShared    = "shared"   // by the owners that the record lists
)

// holdingData is what the record of a holding has as its data, beside the record's own fields. It is empty for most.
type holdingData struct {
	Owner      string     `json:"owner,omitempty"`      // if it is not the name of the record
	Generation int64      `json:"generation,omitempty"` // if it is not the revision of the record
	Scope      string     `json:"scope,omitempty"`
	Child      string     `json:"child,omitempty"`
	Missing    *time.Time `json:"missing,omitempty"`
	Reserved   bool       `json:"reserved,omitempty"`
	Ends       *time.Time `json:"ends,omitempty"`   // of what is reserved: its Expires, when nothing becomes free
	Beside     int        `json:"beside,omitempty"` // how many of the prefixes are Beside, the last ones
	Since      string     `json:"since,omitempty"`  // since when it is so, if not since the grant

	Share    string         `json:"share,omitempty"`    // the share key
	Prefixes []netip.Prefix `json:"prefixes,omitempty"` // of an owner that shares: what the record of the share has
	Sharers  []string       `json:"sharers,omitempty"`  // of a share: its owners
}

func (h *holding) key(pool string) store.Key {
	if h.stray {
		return store.Key{Kind: store.KindCooling, Pool: pool, Name: h.named().String()}
	}
	return store.Key{Kind: store.KindAllocation, Pool: pool, Name: h.Owner}
}

// named is the prefix that names the record of what is stray.
func (h *holding) named() netip.Prefix {
	if h.name.IsValid() {
		return h.name
	}
	return h.Prefixes[0]
}

func (h *holding) record(pool string) (store.Record, error) {
	r := store.Record{
		Key: h.key(pool), State: h.state(), Prefixes: h.allPrefixes(), Labels: h.Labels, Created: h.Created,
		Expires: h.frees(),
	}
	if h.Generation == 0 && h.Scope == "" && h.Share == "" && h.Child == "" && h.missing.IsZero() && !h.stray &&
		!h.Reserved && len(h.Beside) == 0 && h.since.IsZero() {
		return r, nil
	}
	data := holdingData{
		Generation: h.Generation, Scope: h.Scope, Child: h.Child, Reserved: h.Reserved, Share: h.Share, Sharers: h.sharers,
		Beside: len(h.Beside),
	}
	if h.shares() {
		r.Prefixes, data.Prefixes = nil, r.Prefixes
	}
	if h.Reserved && !h.Expires.IsZero() {
		data.Ends = &h.Expires
	}
	if h.stray {
		data.Owner = h.Owner
	}
	if !h.missing.IsZero() {
		data.Missing = &h.missing
	}
	if !h.since.IsZero() {
		data.Since = h.since.Format(toLayout)
	}
	var err error
	r.Data, err = json.Marshal(data)
	return r, err
}

// state is that of the record.
func (h *holding) state() string {
	switch {
	case h.shared:
		return stateShared
	case h.Declined:
		return stateDeclined
	case h.Kept:
		return stateReserved
	case h.cooling:
		return stateCooling
	default:
		return stateAllocated
	}
}

func holdingOf(r store.Record) (*holding, error) {
	h, err := readHolding(r)
	return &h, err
}

func readHolding(r store.Record) (holding, error) {
	h := holding{
		Allocation: Allocation{
			Owner: r.Name, Prefixes: r.Prefixes, Generation: r.Revision, Created: r.Created, Expires: r.Expires,
			Labels: r.Labels, Declined: r.State == stateDeclined,
		},
		cooling: r.State == stateCooling || r.State == stateDeclined || r.State == stateReserved,
		stray:   r.Kind == store.KindCooling,
		shared:  r.State == stateShared,
		written: r.Revision,
	}
	if len(r.Data) == 0 {
		return h, nil
	}
	var data holdingData
	if err := json.Unmarshal(r.Data, &data); err != nil {
		return h, fmt.Errorf("%w: the record %v: %w", ErrCorrupt, r.Key, err)
	}
	h.Scope, h.Child, h.Share, h.sharers = data.Scope, data.Child, data.Share, data.Sharers
	if h.shares() {
		h.Prefixes = data.Prefixes
	}
	var err error
	if h.Prefixes, h.Beside, err = besideIn(r.Key, h.Prefixes, data.Beside); err != nil {
		return h, err
	}
	h.Reserved, h.Kept = data.Reserved, data.Reserved && h.cooling
	if data.Ends != nil {
		h.Expires = data.Ends.UTC()
	}
	if h.stray {
		h.Owner = data.Owner
	}
	if data.Generation != 0 {
		h.Generation = data.Generation
	}
	if data.Missing != nil {
		h.missing = data.Missing.UTC()
	}
	if data.Since != "" {
		if h.since, err = time.Parse(toLayout, data.Since); err != nil {
			return h, fmt.Errorf("%w: the record %v: %w", ErrCorrupt, r.Key, err)
		}
	}
	return h, nil
}

// besideIn are the prefixes of a record without the last ones, of that number, and these.
func besideIn(key store.Key, all []netip.Prefix, beside int) (prefixes, last []netip.Prefix, err error) {
	n := len(all) - beside
	switch {
	case beside == 0:
		return all, nil, nil
	case beside < 0 || n < 1:
		return nil, nil, fmt.Errorf("%w: the record %v: %d of its %d prefixes are beside", ErrCorrupt, key, beside, len(all))
	}
	return all[:n:n], all[n:], nil
}

// copy returns a holding that may be changed, before it is written in the place of h. It keeps the generation.
func (h *holding) copy() *holding {
	c, room := newHolding(Allocation{})
	return h.copyTo(c, room)
}

// copyTo makes c that copy, with room for its prefix if it has one. It returns c.
func (h *holding) copyTo(c *holding, room []netip.Prefix) *holding {
	planned := c.planned // as its room is, whatever h's is
	*c = *h
	c.was, c.planned = nil, planned
	if len(h.Prefixes) == 1 { // h is not kept for them
		room[0], c.Prefixes = h.Prefixes[0], room
	}
	return c
}

// frees is when its addresses become free for others; zero if they do not by themselves.
func (h *holding) frees() time.Time {
	if h.Reserved {
		return time.Time{}
	}
	return h.Expires
}

// due tells whether its addresses are free for others at the time now: its lease or its cooldown has ended.
func (h *holding) due(now time.Time) bool { return h.Expired(now) && !h.Reserved }

// use is what its addresses are used for.
func (h *holding) use() space.Use {
	switch {
	case h.Kept:
		return space.Kept
	case h.cooling:
		return space.Cooling
	default:
		return space.Held
	}
}

// live tells whether its owner holds it, though perhaps by a lease that has ended.
func (h *holding) live() bool { return h != nil && !h.cooling && !h.shared }
