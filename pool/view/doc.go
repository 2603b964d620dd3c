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
// Every address is one of: taken, free, cooling (released and withheld), out of range (held, but the pool does
// not hand it out any more), gateway, reserved, excluded, foreign, or not in the pool. Gateways outside of the
// ranges are shown too. Bands have an outline.
//
// A cell stands for one address, or in large pools for as many as make a map of [Options.MaxCells]. What is held shows,
// however little it is: in the colour of that which there is the most of, and the fuller the cell the stronger; the
// full colour means that nothing in it is free. One address of a /64 is a visible spot.
//
// Each family has a map. It shows the smallest prefix that has all ranges and subnets, and what is held elsewhere. If
// less than a 16th of that is the pool's it is divided at its middle, and so on: ranges far apart have squares of their
// own, each to its own scale, up to 12; those near each other share one.
//
// With [Options.Label], what is taken has the colour of the value of that label. A value has the same colour
// in every picture, unless two values want one; there are eight, for the values with the most addresses,
// chosen so that they can be told apart by people who see colours differently, and in the dark. What is
// cooling, excluded or foreign also differs by its pattern.
//
// # Cost
//
// A map costs O(cells + records·log records) in time, and about 160 bytes a cell and a record in memory, whatever the
// size of the pool. An SVG has at most some hundred bytes a cell; 2,000 allocations in a /16 make about 15 KB.
//
// # Pages
//
//	/                       the pools and their counts
//	/pool/NAME              one pool: counts, map, spec, and its allocations with their times
//	/lookup?addr=ADDRESS    who has the address, of all pools
//
// Each has ?format=html, text and json, a pool svg too; without it the Accept header decides. Lists have pages,
// ?page=2. In a path, every byte of a name but letters, digits, "-" and "_" is written as ~ and two hexadecimal digits.
// The pages need no scripts, follow the browser's choice of light or dark, and can be read on a phone.
//
// A page of the index costs what [pool.List] costs, and a lookup one [pool.Pool.Lookup] for each pool that can have the
// address. A pool's page reads the whole pool, if it has at most [HandlerOptions.MaxRecords] allocations. Two requests
// do that at a time, the others wait; all are bound by [HandlerOptions.Timeout]. With [Store], each request has a
// handle of its own, so that it holds up nobody; a pool in [Pools] waits while it is read.
//
// # Security
//
// The handler reads and changes nothing; it answers GET and HEAD. It asks nobody who they are: owners, labels and
// addresses are people's data, so mount it where only operators get to, as net/http/pprof. Names are data of
// strangers: whatever they contain is escaped in every format, and what is not printable, such as marks that turn the
// direction of text, is shown as in Go's string literals, except in JSON. The Content-Security-Policy forbids scripts,
// frames, and everything from elsewhere; nothing is cached. What a store says when it fails goes to
// [HandlerOptions.Logger], and not to the client.
package view
