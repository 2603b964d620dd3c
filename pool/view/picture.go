package view

import (
	"math"
	"math/bits"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// picture is what is drawn of a pool, whatever the medium.
type picture struct {
	info     pool.Info
	records  []record
	families []familyPicture
	labels   []label // of the values, in their order; none if no label is named
	byLabel  bool
	// unlabelled counts what is held and has no such label.
	unlabelled cidr.Count
}

// record is an allocation, held or cooling.
type record struct {
	*pool.Allocation
	class  class
	colour int
}

// familyPicture is the part of one family.
type familyPicture struct {
	family pool.Family
	counts [classes]cidr.Count
	panels []panelPicture
}

// panelPicture is a panel with its cells.
type panelPicture struct {
	panel
	cells []cell
	bands []int // for each cell the index of the band that it is in, or nobody; nil if the pool has no bands here
}

// cell is what is known of its addresses.
type cell struct {
	amounts [classes]float64     // as parts of the cell
	colours [colours + 2]float64 // of what is taken, by colourIndex
	record  int                  // who holds all of it, or nobody
}

// newPicture works it out. Cost: O(cells + records·log records).
func newPicture(s *pool.Snapshot, o Options, most limits) *picture {
	p := &picture{info: s.Info, byLabel: o.Label != ""}
	for i := range s.Allocations {
		p.records = append(p.records, record{&s.Allocations[i], taken, unlabelled})
	}
	for i := range s.Cooling {
		p.records = append(p.records, record{&s.Cooling[i], cooling, unlabelled})
	}
	if p.byLabel {
		p.colour(o.Label)
	}
	for _, family := range p.shownFamilies() {
		p.families = append(p.families, p.family(family, most))
	}
	return p
}

// colour gives the records that are held the colours of their label's values.
func (p *picture) colour(name string) {
	counts := map[string]cidr.Count{}
	for _, r := range p.records {
		value, ok := r.Labels[name]
		switch {
		case r.class != taken:
		case ok:
			counts[value] = counts[value].Add(r.size())
		default:
			p.unlabelled = p.unlabelled.Add(r.size())
		}
	}
	p.labels = coloured(counts)
	of := map[string]int{}
	for _, l := range p.labels {
		of[l.value] = l.colour
	}
	for i, r := range p.records {
		if value, ok := r.Labels[name]; ok && r.class == taken {
			p.records[i].colour = of[value]
		}
	}
}

// size is the number of addresses of both families.
func (r record) size() cidr.Count {
	var sum cidr.Count
	for _, p := range r.Prefixes {
		sum = sum.Add(cidr.PrefixSize(p))
	}
	return sum
}

// shownFamilies are those of the spec, and those of which something is still held.
func (p *picture) shownFamilies() []pool.Family {
	families := p.info.Spec.AllFamilies()
	for _, f := range []pool.Family{pool.IPv4, pool.IPv6} {
		if !p.info.Spec.Has(f) && p.holdsAny(f) {
			families = append(families, f)
		}
	}
	return families
}

func (p *picture) holdsAny(family pool.Family) bool {
	for _, r := range p.records {
		for _, prefix := range r.Prefixes {
			if pool.FamilyOf(prefix.Addr()) == family {
				return true
			}
		}
	}
	return false
}

func (p *picture) family(family pool.Family, most limits) familyPicture {
	f := familyPicture{family: family}
	held := heldTiles(p.records, family)
	sets := groundSets(p.info, family)
	var ground []tile
	for _, panel := range panelsOf(visible(p.info.Spec, family, held), most) {
		ground = append(ground, groundTiles(&sets, panel.prefix)...)
		f.panels = append(f.panels, panelPicture{panel: panel, cells: make([]cell, panel.grid.cells())})
	}
	current := 0
	for _, t := range overlay(ground, held) {
		f.counts[t.class] = f.counts[t.class].Add(cidr.RangeSize(netipx.IPRangeFrom(t.from, t.to)))
		for !f.panels[current].prefix.Contains(t.from) {
			current++
		}
		f.panels[current].add(t, p.records)
	}
	for i := range f.panels {
		f.panels[i].outline(p.info.Spec.Bands)
	}
	return f
}

// add notes a tile in the cells that it touches.
func (p *panelPicture) add(t tile, records []record) {
	first, last := p.cell(t.from), p.cell(t.to)
	if first == last {
		p.cells[first].add(t, sizeOf(t.from, t.to)/p.cellSize(), records)
		return
	}
	p.cells[first].add(t, sizeOf(t.from, netipx.PrefixLastIP(p.block(first, 0)))/p.cellSize(), records)
	for i := first + 1; i < last; i++ {
		p.cells[i].add(t, 1, records)
	}
	p.cells[last].add(t, sizeOf(p.block(last, 0).Addr(), t.to)/p.cellSize(), records)
}

func (c *cell) add(t tile, part float64, records []record) {
	c.amounts[t.class] += float64(part)
	c.record = nobody
	if t.record == nobody {
		return
	}
	if part == 1 {
		c.record = t.record
	}
	if t.class == taken {
		c.colours[colourIndex(records[t.record].colour)] += float64(part)
	}
}

// colourIndex is the place of a colour in arrays.
func colourIndex(colour int) int {
	if colour < 0 {
		return colours - 1 - colour
	}
	return colour
}

// outline notes which cells are in which band.
func (p *panelPicture) outline(bands []pool.Band) {
	for i, band := range bands {
		for _, r := range band.Ranges {
			within := cidr.Intersection(cidr.SetOf(r), cidr.SetOf(netipx.RangeOfPrefix(p.prefix)))
			for _, r := range within.Ranges() {
				p.mark(i, r)
			}
		}
	}
}

func (p *panelPicture) mark(band int, r netipx.IPRange) {
	if p.bands == nil {
		p.bands = make([]int, len(p.cells))
		for i := range p.bands {
			p.bands[i] = nobody
		}
	}
	for i := p.cell(r.From()); i <= p.cell(r.To()); i++ {
		p.bands[i] = band
	}
}

// shades is how many there are of what is held, from little to all. The last is for cells of which nothing is free.
const shades = 5

// blocks calls yield for the largest aligned blocks of cells that look alike, in the order of the
// curve. A block has 2^n cells, from cell i on.
func (p *panelPicture) blocks(yield func(i, n int, f face)) {
	faces := make([]face, len(p.cells))
	for i := range p.cells {
		faces[i] = p.cells[i].face()
	}
	for i := 0; i < len(faces); {
		end := i + 1
		for end < len(faces) && faces[end] == faces[i] {
			end++
		}
		for i < end {
			n := bits.Len(uint(end-i)) - 1
			if i > 0 {
				n = min(n, bits.TrailingZeros(uint(i)))
			}
			yield(i, n, faces[i])
			i += 1 << n
		}
	}
}

// face is what a cell looks like: cells of the same face are drawn as one.
type face struct {
	class  class
	colour int // of what is taken
	shade  int // 1 to shades for what is held; 0 for the rest
	record int
}

// face returns the face of the cell. If any address is held, it is the class and the colour of most of the held
// addresses, however few they are; else it is the class of most addresses.
func (c *cell) face() face {
	heldPart := c.amounts[taken] + c.amounts[cooling] + c.amounts[outOfRange]
	f := face{class: c.most(heldPart > 0), record: c.record}
	if !f.class.held() {
		return f
	}
	f.shade = shades
	if c.amounts[free] > 0 {
		f.shade = min(shades-1, 1+int((shades-1)*heldPart/(heldPart+c.amounts[free])))
	}
	if f.class != taken {
		return f
	}
	most := 0
	for i, part := range c.colours {
		if part > c.colours[most] {
			most = i
		}
	}
	f.colour = most
	return f
}

// most returns the class with the largest part of the cell, of those that are held or of the others.
func (c *cell) most(held bool) class {
	best, part := outside, float64(math.Inf(-1))
	for i, amount := range c.amounts {
		if class(i).held() == held && amount > part && (amount > 0 || !held) {
			best, part = class(i), amount
		}
	}
	return best
}
