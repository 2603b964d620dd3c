// Package view shows pools: as a picture ([SVG]), as text for a terminal ([Text]), and as pages for browsers and
// programs ([Handler]).
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
// drawn as one block. Hold the pointer over a block to see its addresses, its counts, and its owner if it has one.
//
// Every address is taken, free, cooling (released and withheld), kept (for an owner with a reservation that does not
// hold it), out of range (held, but no longer handed out by the pool), a gateway, reserved, excluded, external, or not
// in the pool. Gateways outside the ranges are shown too. Bands have an outline.
//
// A cell stands for one address; in a large pool it stands for more, so that the map has at most [Options.MaxCells].
// Held addresses always show, however few they are: the cell has the colour of most of them, which is stronger the
// fuller the cell is. Full colour means that nothing in the cell is free. A single held address of a /64 is a visible
// spot.
//
// Each family has a map. It shows the smallest prefix that contains all ranges and subnets, and all addresses held
// outside them. If the pool has less than a 16th of that prefix, the map is divided in halves, and these again, into at
// most 12 squares. So ranges that are far apart have separate squares, each with its own scale, and ranges near each
// other share one.
//
// With [Options.Label], the value of that label decides the colour of a taken address. A value has the same colour in
// every picture, unless it collides with another value. There are eight colours, for the values with the most
// addresses. People with colour blindness can distinguish them, also in dark mode. Cooling, excluded and external
// addresses also have patterns.
//
// # Cost
//
// A map takes O(cells + records·log records) of time, and about 160 bytes of memory for each cell and 60 to 120 bytes
// for each record, whatever the size of the pool. An SVG has at most a few hundred bytes for each cell; with 2,000
// allocations in a /16 it has about 15 KB.
//
// # Pages
//
//	/                       the pools and their counts
//	/pool/NAME              one pool: counts, map, spec, and its allocations with their times
//	/lookup?addr=ADDRESS    who has the address, of all pools
//
// Each page takes ?format=html, text or json, and the page of a pool also svg; without it the Accept header decides.
// Lists are divided into pages: ?page=2. In a path, every byte of a name except letters, digits, "-" and "_" is written
// as ~ and two hexadecimal digits. The pages have no scripts, follow the browser's choice of light or dark, and can be
// read on a phone.
//
// The index costs as much as [pool.List], and a lookup one [pool.Pool.Get] by address for each pool that can have the
// address. The page of a pool with at most [HandlerOptions.MaxRecords] allocations reads the whole pool, and keeps
// about 60 to 120 bytes of each. It keeps whole allocations only for the pages up to the requested one, and as many
// again. At most two requests read whole pools at a time, and others wait. [HandlerOptions.Timeout] bounds each
// request. With [Store], each request has a handle of its own, and holds up no other call; the other calls of a pool in
// [Pools] wait while it is read.
//
// # Security
//
// The handler changes nothing; it answers GET and HEAD. It does not authenticate requests, and owners, labels and
// addresses may be personal data: mount it where only operators have access, as you would net/http/pprof. Names are
// untrusted: they are escaped in every format. Unprintable characters in them, such as marks that change the direction
// of text, are shown as in Go's string literals, except in JSON. The Content-Security-Policy forbids scripts, frames,
// and anything from other sites; nothing is cached. The errors of a store go to [HandlerOptions.Logger], not to the
// client.
package view
