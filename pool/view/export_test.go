package view

import (
	"net/netip"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// GridAt returns the column and the row of cell i of 2^bits, and the size of the grid.
func GridAt(bits, i int) (x, y, width, height int) {
	g := grid{bits}
	p := g.at(i)
	return p.x, p.y, g.width(), g.height()
}

// GridBlock returns the rectangle of the 2^n cells from cell i on.
func GridBlock(bits, i, n int) (x, y, width, height int) {
	b := grid{bits}.block(i, n)
	return b.x, b.y, b.width, b.height
}

// Drawn is what a picture shows of a family.
type Drawn struct {
	Family pool.Family
	Panels []netip.Prefix
	Counts map[string]cidr.Count // by the name of the class
	// Cells are, for each panel and cell, the parts of it by class.
	Cells [][]map[string]float64
	// CellSizes are the addresses of a cell, for each panel.
	CellSizes []float64
}

// Draw returns what an SVG with so many cells shows.
func Draw(s pool.Snapshot, maxCells int) []Drawn {
	var all []Drawn
	for _, f := range pictureOf(&s, (*Options)(nil).withDefaults(), limits{maxCells, maxCells}).families {
		d := Drawn{Family: f.family, Counts: map[string]cidr.Count{}}
		for c, count := range f.counts {
			d.Counts[looks[c].name] = count
		}
		for i := range f.panels {
			p := &f.panels[i]
			d.Panels = append(d.Panels, p.prefix)
			d.CellSizes = append(d.CellSizes, p.cellSize())
			var cells []map[string]float64
			for _, cell := range p.cells {
				parts := map[string]float64{}
				for c, part := range cell.amounts {
					if part > 0 {
						parts[looks[c].name] = part
					}
				}
				cells = append(cells, parts)
			}
			d.Cells = append(d.Cells, cells)
		}
		all = append(all, d)
	}
	return all
}

// SegmentOf and NameOf are how names stand in paths.
var (
	SegmentOf = segmentOf
	NameOf    = nameOf
	Printable = printable
)
