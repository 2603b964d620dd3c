package view

import (
	"math"
	"math/bits"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// picture is what is drawn of a pool, whatever the medium. It is made of what newPicture, add and finish are told.
type picture struct {
	info     pool.Info
	held     map[pool.Family]*[]held
	families []familyPicture
	labels   []label // of the values, in their order; none if no label is named
	name     string  // of the label
	byLabel  bool
	values   map[string]int // the numbers of the values
	counts   map[string]cidr.Count
	colours  []int // by the number of the value
	// unlabelled counts what is held and has no such label.
	unlabelled cidr.Count
}

// held is a prefix of an allocation, held or cooling.
type held struct {
	prefix netip.Prefix // without host bits
	owner  string
	value  int // the number of the label's value, or noValue
	class  class
}

// last is its last address.
func (h *held) last() netip.Addr {
	if h.prefix.IsSingleIP() {
		return h.prefix.Addr()
	}
	return netipx.PrefixLastIP(h.prefix)
}

const noValue = -1

// familyPicture is the part of one family.
type familyPicture struct {
	family pool.Family
	counts [classes]cidr.Count
	panels []panelPicture
}

// panelPicture is a panel with its cells.
type panelPicture struct {
	panel
	held  []held // of the family
	cells []cell
	bands []int // for each cell the index of the band that it is in, or nobody; nil if the pool has no bands here
}

// cell is what is known of its addresses.
type cell struct {
	amounts [classes]float64     // as parts of the cell
	colours [colours + 2]float64 // of what is taken, by colourIndex
	record  int                  // what holds all of it, of what the panel has as held, or nobody
}

// newPicture returns the picture of a pool of which nothing is held, so far, with room for at most so many prefixes of
// each family.
func newPicture(info pool.Info, o Options, most int) *picture {
	p := &picture{
		info: info, name: o.Label, byLabel: o.Label != "", values: map[string]int{}, counts: map[string]cidr.Count{},
		held: map[pool.Family]*[]held{pool.IPv4: {}, pool.IPv6: {}},
	}
	for _, s := range info.Stats {
		if !s.Used.IsZero() {
			*p.held[s.Family] = make([]held, 0, min(info.Holders, most))
		}
	}
	return p
}

// pictureOf returns the picture of the snapshot. Cost: O(cells + records·log records).
func pictureOf(s *pool.Snapshot, o Options, most limits) *picture {
	p := newPicture(s.Info, o, len(s.Allocations))
	for i := range s.Allocations {
		p.add(&s.Allocations[i], taken)
	}
	for i := range s.Cooling {
		p.add(&s.Cooling[i], cooling)
	}
	for i := range s.Kept {
		p.add(&s.Kept[i], kept)
	}
	p.finish(most)
	return p
}

// add notes an allocation, of which it keeps the owner, and the value of the label.
func (p *picture) add(a *pool.Allocation, c class) {
	value := noValue
	if c == taken && p.byLabel {
		value = p.count(a)
	}
	for _, prefix := range a.Prefixes {
		if !prefix.IsValid() {
			continue
		}
		of := p.held[pool.FamilyOf(prefix.Addr())]
		*of = append(*of, held{prefix.Masked(), a.Owner, value, c})
	}
}

// count adds an allocation to the count of its value, and returns the value's number.
func (p *picture) count(a *pool.Allocation) int {
	var size cidr.Count
	for _, prefix := range a.Prefixes {
		size = size.Add(cidr.PrefixSize(prefix))
	}
	value, ok := a.Labels[p.name]
	if !ok {
		p.unlabelled = p.unlabelled.Add(size)
		return noValue
	}
	p.counts[value] = p.counts[value].Add(size)
	number, ok := p.values[value]
	if !ok {
		number = len(p.values)
		p.values[value] = number
	}
	return number
}

// finish works the picture out, when all has been added.
func (p *picture) finish(most limits) {
	if p.byLabel {
		p.labels = coloured(p.counts)
		p.colours = make([]int, len(p.values))
		for _, l := range p.labels {
			p.colours[p.values[l.value]] = l.colour
		}
	}
	for _, family := range p.shownFamilies() {
		p.families = append(p.families, p.family(family, most))
	}
}

// colour is the colour of what is taken.
func (p *picture) colour(h *held) int {
	if h.value == noValue {
		return unlabelled
	}
	return p.colours[h.value]
}

// shownFamilies are those of the spec, and those of which something is still held.
func (p *picture) shownFamilies() []pool.Family {
	families := p.info.Spec.AllFamilies()
	for _, f := range []pool.Family{pool.IPv4, pool.IPv6} {
		if !slices.Contains(families, f) && len(*p.held[f]) > 0 {
			families = append(families, f)
		}
	}
	return families
}

func (p *picture) family(family pool.Family, most limits) familyPicture {
	f := familyPicture{family: family}
	held := *p.held[family]
	sets := groundSets(p.info, family)
	var ground []tile
	for _, panel := range panelsOf(visible(p.info.Spec, family, held), most) {
		ground = append(ground, groundTiles(&sets, panel.prefix)...)
		f.panels = append(f.panels, panelPicture{panel: panel, held: held, cells: make([]cell, panel.grid.cells())})
	}
	current := 0
	for t := range overlay(ground, tilesOf(held)) {
		f.counts[t.class] = f.counts[t.class].Add(cidr.RangeSize(netipx.IPRangeFrom(t.from, t.to)))
		for !f.panels[current].prefix.Contains(t.from) {
			current++
		}
		colour := unlabelled
		if t.record != nobody {
			colour = p.colour(&held[t.record])
		}
		f.panels[current].add(t, colour)
	}
	for i := range f.panels {
		f.panels[i].outline(p.info.Spec.Bands)
	}
	return f
}

// add notes a tile in the cells that it touches.
func (p *panelPicture) add(t tile, colour int) {
	first, last := p.cell(t.from), p.cell(t.to)
	if first == last {
		p.cells[first].add(t, sizeOf(t.from, t.to)/p.cellSize(), colour)
		return
	}
	p.cells[first].add(t, sizeOf(t.from, netipx.PrefixLastIP(p.block(first, 0)))/p.cellSize(), colour)
	for i := first + 1; i < last; i++ {
		p.cells[i].add(t, 1, colour)
	}
	p.cells[last].add(t, sizeOf(p.block(last, 0).Addr(), t.to)/p.cellSize(), colour)
}

func (c *cell) add(t tile, part float64, colour int) {
	c.amounts[t.class] += float64(part)
	c.record = nobody
	if t.record == nobody {
		return
	}
	if part == 1 {
		c.record = t.record
	}
	if t.class == taken {
		c.colours[colourIndex(colour)] += float64(part)
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
	heldPart := c.amounts[taken] + c.amounts[cooling] + c.amounts[kept] + c.amounts[outOfRange]
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
