// Package view shows what is in pools: as a picture ([SVG]), for a terminal ([Text]), and as pages
// for a browser and for programs ([Handler]).
//
//	s, err := p.Snapshot(ctx)
//	err = view.SVG(w, s, &view.Options{Label: "team"})
//
//	source := view.Store(db, nil)
//	mux.Handle("/debug/ipalloc/", http.StripPrefix("/debug/ipalloc", view.Handler(source, nil)))
//
// # How to read a map
//
// The addresses run along a Hilbert curve, from the top left to the top right. Addresses near each other are near on
// the map, and each aligned block, a /28 or a /60, is a square or a rectangle of 2:1. Neighbours that look the same are
// drawn as one block; hold a pointer over a block to see its addresses, its counts, and its owner where it has one.
//
// Every address is one of: taken, free, cooling (released and withheld), out of range (held, but the pool no
// longer hands it out), gateway, reserved, excluded, foreign, or not in the pool. Gateways outside of the
// ranges are shown too. Bands have an outline.
//
// A cell stands for one address. In a large pool it stands for as many as give a map of [Options.MaxCells]. Held
// addresses always show, however few they are: the cell has the colour of most of them, and the fuller the cell the
// stronger the colour; the full colour means that nothing in the cell is free. One address of a /64 is a visible spot.
//
// Each family has a map. It shows the smallest prefix that has all ranges and subnets, and what is held elsewhere. If
// less than a 16th of that prefix is the pool's, it is divided at its middle, and so on, into at most 12 squares. So
// ranges far apart have squares of their own, each to its own scale, and ranges near each other share one.
//
// With [Options.Label], a taken address has the colour of the value of that label. A value has the same colour
// in every picture, unless two values want one. There are eight colours, for the values with the most
// addresses; they can be told apart by people who see colours differently, and in the dark. Cooling, excluded
// and foreign addresses also differ by a pattern.
//
// # Cost
//
// A map costs O(cells + records·log records) in time, and about 160 bytes a cell and 60 to 120 bytes a record in
// memory, whatever the size of the pool. An SVG has at most a few hundred bytes a cell; with 2,000 allocations in a /16
// it has about 15 KB.
//
// # Pages
//
//	/                       the pools and their counts
//	/pool/NAME              one pool: counts, map, spec, and its allocations with their times
//	/lookup?addr=ADDRESS    who has the address, of all pools
//
// Each page has ?format=html, text and json, and a pool also svg; without it the Accept header decides.
// Lists are divided into pages: ?page=2. In a path, every byte of a name but letters, digits, "-" and "_"
// is written as ~ and two hexadecimal digits. The pages need no scripts, follow the browser's choice of
// light or dark, and can be read on a phone.
//
// A page of the index costs as much as [pool.List], and a lookup costs one [pool.Pool.Lookup] for each pool that can
// have the address. The page of a pool with at most [HandlerOptions.MaxRecords] allocations reads the whole pool, but
// keeps about 60 to 120 bytes of each; it keeps whole allocations only of the pages up to the one that is asked for,
// and as many others. Two requests do that at a time, and the others wait; all are bound by [HandlerOptions.Timeout].
// With [Store], each request has a handle of its own and holds up nobody; a pool in [Pools] waits while it is read.
//
// # Security
//
// The handler changes nothing; it answers GET and HEAD. It does not authenticate anybody, and owners, labels and
// addresses are people's data: mount it where only operators have access, as you would net/http/pprof. Names come from
// strangers. They are escaped in every format, and unprintable characters in them, such as marks that change the
// direction of text, are shown as in Go's string literals, except in JSON. The Content-Security-Policy forbids
// scripts, frames, and everything from elsewhere; nothing is cached. The errors of a store go to
// [HandlerOptions.Logger], and not to the client.
package view
