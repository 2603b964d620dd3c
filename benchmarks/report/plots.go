package main

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// figure is a picture: one line a subject, both axes logarithmic.
type figure struct {
	plot, file, title, x, y string
	unit                    Unit
	// falling turns the x axis round, so that it falls from left to right.
	falling bool
	// size tells that x is how many addresses an IPv4 prefix has, which its length says better.
	size bool
}

func figures() []figure {
	return []figure{
		{plot: plotFill, file: "fill.svg", title: "Take one address and release it: a /16, packed",
			x: "free addresses, %", y: "time", unit: Nanoseconds, falling: true},
		{plot: plotHoles, file: "fill-holes.svg", title: "Take one address and release it: a /16, random holes",
			x: "free addresses, %", y: "time", unit: Nanoseconds, falling: true},
		{plot: plotSize, file: "size.svg", title: "Take one address and release it: half full, packed",
			x: "length of the IPv4 prefix", size: true, y: "time", unit: Nanoseconds},
		{plot: plotMemory, file: "memory.svg", title: "Memory: half full, random holes",
			x: "length of the IPv4 prefix", size: true, y: "heap", unit: Bytes},
		{plot: plotBytes, file: "bytes.svg", title: "Written for one change of a durable pool",
			x: "addresses held", y: "bytes", unit: Bytes},
		{plot: plotWriters, file: "writers.svg", title: "Allocate and release in a durable pool",
			x: "writers in one process", y: "pairs a second", unit: PairsSecond},
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
	style  draw.LineStyle
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
			l.style = styleOf(s.Name, len(all))
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
		&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label,
	} {
		style.Font.Variant = "Sans"
	}
	p.Title.TextStyle.Font.Size, p.Title.Padding = font.Points(13), vg.Points(8)
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	if f.falling {
		p.X.Scale = plot.InvertedScale{Normalizer: plot.LogScale{}}
	}
	p.X.Tick.Marker, p.Y.Tick.Marker = f.ticks(lines), ticks{f.unit}
	p.Add(plotter.NewGrid())
	for _, l := range lines {
		drawn, points, err := plotter.NewLinePoints(l.points)
		if err != nil {
			return err
		}
		drawn.LineStyle = l.style
		points.Color, points.Shape, points.Radius = l.style.Color, draw.CircleGlyph{}, l.style.Width/2+vg.Points(1.5)
		p.Add(drawn, points)
	}
	p.Y.Min, p.Y.Max = p.Y.Min/margin, p.Y.Max*margin
	return save(p, f.labels(lines), path)
}

// margin is the factor between the outermost points and the frame.
const margin = 1.3

const (
	plotWidth, plotHeight = 25 * vg.Centimeter, 14 * vg.Centimeter
	labelWidth            = 5.4 * vg.Centimeter
)
