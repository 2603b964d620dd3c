package main

import (
	"cmp"
	"fmt"
	"image/color"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/ipalloc/ipalloc/benchmarks/peer"
)

// figure is a picture: one line a subject, both axes logarithmic.
type figure struct {
	plot, file, title, x, y string
	unit                    Unit
	// falling turns the x axis round, so that it falls from left to right.
	falling bool
}

func figures() []figure {
	return []figure{
		{plot: plotFill, file: "fill.svg", title: "Take one address and release it: a /16, packed", x: "free addresses, %", y: "time", unit: Nanoseconds, falling: true},
		{plot: plotHoles, file: "fill-holes.svg", title: "Take one address and release it: a /16, random holes", x: "free addresses, %", y: "time", unit: Nanoseconds, falling: true},
		{plot: plotSize, file: "size.svg", title: "Take one address and release it: half full, packed", x: "addresses in the space", y: "time", unit: Nanoseconds},
		{plot: plotMemory, file: "memory.svg", title: "Memory: half full, random holes", x: "addresses in the space", y: "heap", unit: Bytes},
		{plot: plotBytes, file: "bytes.svg", title: "Written for one change of a durable pool", x: "addresses held", y: "bytes", unit: Bytes},
		{plot: plotWriters, file: "writers.svg", title: "Allocate and release in a durable pool", x: "writers in one process", y: "pairs a second", unit: PairsSecond},
	}
}

// writePlots writes the pictures into the folder, those without a point excepted.
func writePlots(dir string, r Results) error {
	for _, f := range figures() {
		lines := f.lines(r)
		if len(lines) == 0 {
			continue
		}
		if err := f.write(filepath.Join(dir, f.file), lines); err != nil {
			return fmt.Errorf("%s: %w", f.file, err)
		}
	}
	return nil
}

// line is what is drawn for a subject.
type line struct {
	name   string
	color  color.Color
	points plotter.XYs
}

// lines are those with points in the figure, in the order of the subjects. A value of 0 cannot be shown on a log axis.
func (f figure) lines(r Results) []line {
	var all []line
	for _, s := range r.Subjects {
		l := line{name: s.Name}
		for _, row := range r.Rows {
			if cell, ok := row.Cells[s.Name]; ok && row.Plot == f.plot && cell.Missing == "" && cell.Median > 0 {
				l.points = append(l.points, plotter.XY{X: row.X, Y: cell.Median})
			}
		}
		if len(l.points) > 0 {
			l.color = colorOf(s.Name, len(all))
			slices.SortFunc(l.points, func(a, b plotter.XY) int { return cmp.Compare(a.X, b.X) })
			all = append(all, l)
		}
	}
	return all
}

func (f figure) write(path string, lines []line) error {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = f.title, f.x, f.y
	for _, style := range []*text.Style{
		&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle,
	} {
		style.Font.Variant = "Sans"
	}
	p.Title.TextStyle.Font.Size, p.Title.Padding = font.Points(13), vg.Points(8)
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	if f.falling {
		p.X.Scale = plot.InvertedScale{Normalizer: plot.LogScale{}}
	}
	p.X.Tick.Marker, p.Y.Tick.Marker = ticks{Number}, ticks{f.unit}
	p.Add(plotter.NewGrid())
	// Beside the picture, so that it covers no line.
	p.Legend.Top, p.Legend.XOffs, p.Legend.Padding = true, legendWidth, vg.Points(2)
	for i, l := range lines {
		drawn, points, err := plotter.NewLinePoints(l.points)
		if err != nil {
			return err
		}
		drawn.Color, drawn.Width = l.color, vg.Points(1.2)
		if isOurs(l.name) {
			drawn.Width = vg.Points(3)
		}
		points.Color, points.Shape, points.Radius = l.color, shapes()[i%len(shapes())], vg.Points(3.5)
		p.Add(drawn, points)
		p.Legend.Add(l.name, drawn, points)
	}
	return save(p, path)
}

const (
	plotWidth, plotHeight = 24 * vg.Centimeter, 13 * vg.Centimeter
	legendWidth           = 4.6 * vg.Centimeter
)

// colorOf is red for this library, grey for floors, and another colour for the n-th line of the others.
func colorOf(name string, n int) color.Color {
	switch {
	case isOurs(name):
		return color.RGBA{R: 0xc0, A: 0xff}
	case name == peer.Floor || strings.HasPrefix(name, "bare "):
		return color.Gray{0x80}
	}
	others := []color.Color{
		color.RGBA{R: 0x1f, G: 0x5f, B: 0xd0, A: 0xff}, color.RGBA{R: 0xe0, G: 0x80, B: 0x10, A: 0xff}, color.RGBA{R: 0x20, G: 0x90, B: 0x30, A: 0xff},
		color.RGBA{R: 0x80, G: 0x30, B: 0xa0, A: 0xff}, color.RGBA{R: 0x10, G: 0x90, B: 0x90, A: 0xff}, color.RGBA{R: 0xd0, G: 0x40, B: 0x90, A: 0xff},
		color.RGBA{R: 0x60, G: 0x60, B: 0x20, A: 0xff}, color.RGBA{R: 0x60, G: 0x9c, B: 0xf0, A: 0xff}, color.Black,
	}
	return others[n%len(others)]
}

func shapes() []draw.GlyphDrawer {
	return []draw.GlyphDrawer{
		draw.CircleGlyph{}, draw.CrossGlyph{}, draw.SquareGlyph{}, draw.TriangleGlyph{}, draw.PyramidGlyph{}, draw.RingGlyph{}, draw.BoxGlyph{}, draw.PlusGlyph{},
	}
}
