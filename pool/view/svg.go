package view

import (
	"bytes"
	_ "embed"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// mapStyle is what stands in every SVG, the same in each.
//
//go:embed map.css
var mapStyle string

// The measures of an SVG, in its own units: pixels, if it is not scaled.
const (
	svgWidth  = 480
	margin    = 16
	inner     = svgWidth - 2*margin
	line      = 18
	swatch    = 12
	perLetter = 7 // at most, of the text of legends
	mostCell  = 24
)

// SVG writes a picture of the pool: a map of its addresses for each family, along a Hilbert curve, with a
// legend and counts. See the package comment for how to read it. The document needs no other file, has no
// scripts, and is the same for the same snapshot.
//
// Names of owners and values of labels are in it, for those who hold a pointer over a cell and in the legend.
//
// Errors: those of w. Cost: O(cells + records·log records), in one write of at most a few hundred bytes a cell.
func SVG(w io.Writer, s pool.Snapshot, options *Options) error {
	o := options.withDefaults()
	return drawSVG(w, pictureOf(&s, o, svgLimits(o)))
}

func svgLimits(o Options) limits { return limits{o.MaxCells, o.MaxCells} }

// drawSVG writes a picture that is finished, with the limits of svgLimits.
func drawSVG(w io.Writer, p *picture) error {
	d := &drawing{picture: p}
	d.draw(p.name)
	_, err := w.Write(d.document())
	return err
}

// drawing is an SVG in the making.
type drawing struct {
	*picture
	body bytes.Buffer
	y    int // where the next thing goes
}

func (d *drawing) printf(format string, args ...any) { fmt.Fprintf(&d.body, format, args...) }

// escaped returns text as XML has it. What XML cannot have is replaced.
func escaped(text string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(text)) //nolint:errcheck // a Builder takes everything
	return b.String()
}

func (d *drawing) text(x, y int, style, text string) {
	d.printf(`<text x="%d" y="%d" class="%s">%s</text>`+"\n", x, y, style, escaped(text))
}

// title is what the picture is of.
func (p *picture) title() string {
	if p.info.Name == "" {
		return "Pool in memory"
	}
	return "Pool " + short(p.info.Name, 40)
}

// summary is the picture in words.
func (f *familyPicture) summary() string {
	var parts []string
	for _, c := range legendOrder {
		if !f.counts[c].IsZero() {
			parts = append(parts, formatCount(f.counts[c])+" "+looks[c].name)
		}
	}
	return fmt.Sprintf("%v: %s", f.family, strings.Join(parts, ", "))
}

func (d *drawing) draw(label string) {
	d.y = margin + line
	d.text(margin, d.y-4, "h", d.title())
	for i := range d.families {
		d.family(&d.families[i])
	}
	d.bandLegend()
	d.labelLegend(label)
}

func (d *drawing) document() []byte {
	var out bytes.Buffer
	var summaries []string
	for i := range d.families {
		summaries = append(summaries, d.families[i].summary())
	}
	height := d.y + margin
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" class="ipalloc-map" `+
		`role="img" aria-labelledby="ipalloc-title ipalloc-desc">`+"\n", svgWidth, height)
	fmt.Fprintf(&out, "<title id=\"ipalloc-title\">%s</title>\n<desc id=\"ipalloc-desc\">%s.</desc>\n",
		escaped(d.title()), escaped(strings.Join(summaries, "; ")))
	fmt.Fprintf(&out, "<style>%s</style>\n%s", mapStyle, svgPatterns)
	fmt.Fprintf(&out, `<rect width="%d" height="%d" class="bg"/>`+"\n", svgWidth, height)
	out.Write(d.body.Bytes())
	out.WriteString("</svg>\n")
	return out.Bytes()
}

const svgPatterns = "<defs>\n" +
	`<pattern id="ipalloc-c" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(-45)">` +
	`<rect width="5" height="5" class="f"/><path d="M0 2.5h5" stroke-width="2.4" class="cool"/></pattern>` + "\n" +
	`<pattern id="ipalloc-e" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">` +
	`<rect width="5" height="5" class="o"/><path d="M0 2.5h5" stroke-width="1.6" class="hatch"/></pattern>` + "\n" +
	`<pattern id="ipalloc-n" width="5" height="5" patternUnits="userSpaceOnUse"><rect width="5" height="5" class="o"/>` +
	`<path d="M0 2.5h5M2.5 0v5" stroke-width="1.2" class="hatch"/></pattern>` + "\n" +
	"</defs>\n"

// family draws the panels of a family, in rows, and the legend with the counts.
func (d *drawing) family(f *familyPicture) {
	d.y += line
	d.text(margin, d.y-4, "", f.family.String())
	most := mostCell
	if len(f.panels) > 1 {
		most /= 2
	}
	x, bottom := margin, d.y
	for i := range f.panels {
		p := &f.panels[i]
		size := max(1, min(most, inner/p.grid.width()))
		width := max(size*p.grid.width(), perLetter*utf8.RuneCountInString(p.prefix.String()))
		if x > margin && x+width > svgWidth-margin {
			x, d.y = margin, bottom
		}
		d.panel(p, x, size)
		x += width + margin
		bottom = max(bottom, d.y+2*line+size*p.grid.height())
	}
	d.y = bottom
	var entries []entry
	for _, c := range legendOrder {
		if !f.counts[c].IsZero() {
			entries = append(entries, entry{looks[c].style, fmt.Sprintf("%s %s", looks[c].name, formatCount(f.counts[c]))})
		}
	}
	if d.byLabel && len(entries) > 0 && entries[0].style == looks[taken].style {
		entries[0].style = ""
	}
	d.legend(entries)
}

// panel draws one at x, with cells of so many units.
func (d *drawing) panel(p *panelPicture, x, size int) {
	top := d.y + line
	d.text(x, top-5, "d", p.prefix.String()+p.scale(x == margin && size*p.grid.width() > inner/2))
	style := "m"
	if size < 6 {
		style = "m fine"
	}
	d.printf(`<g transform="translate(%d %d)">`+"\n", x, top)
	width, height := size*p.grid.width(), size*p.grid.height()
	d.printf(`<rect width="%d" height="%d" class="f"/><g class="%s">`+"\n", width, height, style)
	p.blocks(func(i, n int, f face) {
		b := p.grid.block(i, n)
		d.printf(`<rect x="%d" y="%d" width="%d" height="%d" class="%s"><title>%s</title></rect>`+"\n",
			b.x*size, b.y*size, b.width*size, b.height*size, d.style(f), escaped(d.describe(p, i, n, f)))
	})
	d.printf("</g>\n<rect width=\"%d\" height=\"%d\" class=\"frame\"/>\n", width, height)
	d.outlines(p, size)
	d.printf("</g>\n")
}

// scale says how much a cell stands for, if there is room to say it.
func (p *panelPicture) scale(room bool) string {
	switch {
	case !room || p.hostBits() == p.grid.bits:
		return ""
	case p.hostBits()-p.grid.bits > 20:
		return fmt.Sprintf(" · a cell is a /%d", p.prefix.Bits()+p.grid.bits)
	default:
		return fmt.Sprintf(" · a cell is %s addresses, a /%d", formatAmount(p.cellSize()), p.prefix.Bits()+p.grid.bits)
	}
}

// style returns the style classes of a face.
func (d *drawing) style(f face) string {
	style := looks[f.class].style
	if f.class == taken && d.byLabel {
		style = fmt.Sprintf("k%d", f.colour)
	}
	if f.shade > 0 && f.shade < shades {
		style += fmt.Sprintf(" s%d", f.shade)
	}
	return style
}

// describe says in words what is in a block of 2^n cells from cell i on.
func (p *picture) describe(panel *panelPicture, i, n int, f face) string {
	what := cidr.FormatRange(netipx.RangeOfPrefix(panel.block(i, n)))
	if f.record != nobody {
		return fmt.Sprintf("%s %s: %s", what, looks[f.class].name, short(panel.held[f.record].owner, 200))
	}
	var amounts [classes]float64
	for _, c := range panel.cells[i : i+1<<n] {
		for class, part := range c.amounts {
			amounts[class] += part * panel.cellSize()
		}
	}
	var parts []string
	only := true
	for _, c := range append(legendOrder, outside) {
		if amounts[c] > 0 {
			parts = append(parts, formatAmount(amounts[c])+" "+looks[c].name)
			only = only && c == f.class
		}
	}
	if only {
		return what + " " + looks[f.class].name
	}
	return what + ": " + strings.Join(parts, ", ")
}

// outlines draws the borders of the bands.
func (d *drawing) outlines(p *panelPicture, size int) {
	if p.bands == nil {
		return
	}
	width, height := p.grid.width(), p.grid.height()
	at := make([]int, width*height)
	for i, band := range p.bands {
		c := p.grid.at(i)
		at[c.y*width+c.x] = band
	}
	band := func(x, y int) int {
		if x < 0 || y < 0 || x >= width || y >= height {
			return nobody
		}
		return at[y*width+x]
	}
	paths := make([]strings.Builder, len(d.info.Spec.Bands))
	edge := func(inner, outer, x, y int, direction string) {
		if inner != outer && inner != nobody {
			fmt.Fprintf(&paths[inner], "M%d %d%s%d", x*size, y*size, direction, size)
		}
	}
	for y := range height {
		for x := range width {
			here := band(x, y)
			edge(here, band(x, y-1), x, y, "h")
			edge(here, band(x, y+1), x, y+1, "h")
			edge(here, band(x-1, y), x, y, "v")
			edge(here, band(x+1, y), x+1, y, "v")
		}
	}
	for i := range paths {
		if paths[i].Len() > 0 {
			d.printf(`<path d="%s" class="b b%d"/>`+"\n", paths[i].String(), i%3)
		}
	}
}

// entry is one of a legend. Without a style it has no swatch.
type entry struct{ style, text string }

// legend writes the entries, in as many rows as they need.
func (d *drawing) legend(entries []entry) {
	x := margin
	for _, e := range entries {
		indent := 0
		if e.style != "" {
			indent = swatch + 5
		}
		width := indent + perLetter*utf8.RuneCountInString(e.text) + margin
		if x > margin && x+width > svgWidth {
			x, d.y = margin, d.y+line
		}
		switch {
		case e.style == "":
		case strings.HasPrefix(e.style, "b "):
			d.printf(`<path d="M%d %dh%dv%dh-%dz" class="%s"/>`, x, d.y-10, swatch, swatch, swatch, e.style)
		default:
			d.printf(`<rect x="%d" y="%d" width="%d" height="%d" class="%s"/>`, x, d.y-10, swatch, swatch, e.style)
		}
		d.text(x+indent, d.y, "", e.text)
		x += width
	}
	if len(entries) > 0 {
		d.y += line
	}
}

func (d *drawing) bandLegend() {
	const most = 24
	var entries []entry
	for i, band := range d.info.Spec.Bands {
		if i == most {
			entries = append(entries, entry{"", fmt.Sprintf("and %d more bands", len(d.info.Spec.Bands)-most)})
			break
		}
		text := "band " + short(band.Name, 40)
		if band.Exclusive {
			text += " (exclusive)"
		}
		entries = append(entries, entry{fmt.Sprintf("b b%d", i%3), text})
	}
	d.legend(entries)
}

func (d *drawing) labelLegend(name string) {
	if !d.byLabel {
		return
	}
	d.text(margin, d.y, "d", "by "+short(name, 50))
	d.y += line
	var entries []entry
	others := cidr.Count{}
	hidden := 0
	for _, l := range d.labels {
		if l.colour == otherValues {
			others, hidden = others.Add(l.count), hidden+1
			continue
		}
		entries = append(entries, entry{fmt.Sprintf("k%d", l.colour),
			fmt.Sprintf("%s %s", short(l.value, 32), formatCount(l.count))})
	}
	if hidden > 0 {
		entries = append(entries, entry{fmt.Sprintf("k%d", colourIndex(otherValues)),
			fmt.Sprintf("%d others %s", hidden, formatCount(others))})
	}
	if !d.unlabelled.IsZero() {
		entries = append(entries, entry{fmt.Sprintf("k%d", colourIndex(unlabelled)), "without " + formatCount(d.unlabelled)})
	}
	d.legend(entries)
}
