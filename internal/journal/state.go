package journal

import "net/netip"

// State is what a store holds in the end, when nothing is under way any more: every process has ended, and a commit
// to each pool since then has come before what a killed one had sent. The zero State is an empty store.
type State struct {
	Pools []Pool
	// Places says more of places; one that is not named here is a zero Place.
	Places map[string]Place
}

// Place says what kind of place it is. The zero Place is one pool without a network. It is a value.
type Place struct {
	// Network is the name of the network. Within one, no address is held twice. Empty means that of the place that
	// delegates to this one or, if none does, no network: the place shares nothing with others.
	Network string
	// Several says that it is made of several pools, whose generations have nothing to do with each other.
	Several bool
}

// Pool is one pool in the end.
type Pool struct {
	// Name is the pool's own, and Place the place that it is, or is a part of.
	Name, Place string
	// Ranges are what the pool hands out, before anything is withheld.
	Ranges []netip.Prefix
	// Delegated says that the pool is made of what another pool delegates to it.
	Delegated bool
	// Held are what owners hold. In their Child stands the place, and in Delegates the pool, that they are delegated
	// to.
	Held []Found
}

// Found is a holding in the end.
type Found struct {
	Holding
	// Delegates is the name of the pool that is made of it; empty if there is none.
	Delegates string
}
