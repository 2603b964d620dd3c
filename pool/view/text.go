package view

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/ipalloc/ipalloc/pool"
)

// Text writes a picture of the pool for a terminal: the map that [SVG] draws, with as many cells as fit the
// width, the counts, and the meaning of the signs. Apart from its own colours it writes no control characters,
// whatever the names of owners and labels contain.
//
// Without colours the values of a label are letters: capital ones where more than half of the cell is taken.
//
// Errors: those of w. Cost: O(cells + records·log records), in one write.
func Text(w io.Writer, s pool.Snapshot, options *Options) error {
	o := options.withDefaults()
	return drawText(w, pictureOf(&s, o, textLimits(o)), o)
}

func textLimits(o Options) limits {
	side := 1
	for side*2*columns <= o.Width {
		side *= 2
	}
	return limits{maxPanels * side * side, side * side}
}

// drawText writes a picture that is finished, with the limits of textLimits.
func drawText(w io.Writer, p *picture, o Options) error {
	t := &terminal{picture: p, options: o}
	t.write()
	_, err := w.Write(t.out.Bytes())
	return err
}

// columns is how many characters wide a cell is, which makes it about square.
const columns = 2

// terminal is a text in the making.
type terminal struct {
	*picture
	options Options
	out     bytes.Buffer
}

func (t *terminal) printf(format string, args ...any) { fmt.Fprintf(&t.out, format, args...) }

func (t *terminal) write() {
	t.printf("%s\n", t.title())
	for i := range t.families {
		f := &t.families[i]
		t.printf("\n%s\n", f.summary())
		for j := range f.panels {
			t.panel(&f.panels[j])
		}
	}
	t.legend()
}

func (t *terminal) panel(p *panelPicture) {
	t.printf("\n%s%s\n", p.prefix, p.scale(true))
	width := p.grid.width()
	signs := make([]string, len(p.cells))
	for i := range p.cells {
		at := p.grid.at(i)
		signs[at.y*width+at.x] = t.sign(p.cells[i].face())
	}
	for row := 0; row < len(signs); row += width {
		t.printf("%s\n", strings.TrimRight(strings.Join(signs[row:row+width], ""), " "))
	}
}

var (
	shadeGlyphs = [shades + 1]string{"", "░", "░", "▒", "▓", "█"}
	colourCodes = [colours + 2]int{32, 36, 214, 175, 62, 125, 185, 80, 245, 137} // as in map.css, of the palette of xterm
)

// sign is what a cell looks like.
func (t *terminal) sign(f face) string {
	glyph, code := looks[f.class].glyph, looks[f.class].ansi
	if f.class == taken {
		glyph = shadeGlyphs[f.shade]
		if t.byLabel {
			code = colourCodes[f.colour]
		}
		if t.byLabel && !t.options.Color {
			glyph = letter(f.colour, f.shade > shades/2)
		}
	}
	return t.coloured(code, strings.Repeat(glyph, columns))
}

// letter stands for a colour of taken cells.
func letter(colour int, capital bool) string {
	text := "abcdefgh?*"[colour : colour+1]
	if capital {
		return strings.ToUpper(text)
	}
	return text
}

func (t *terminal) coloured(code int, text string) string {
	if !t.options.Color || code == 0 {
		return text
	}
	return fmt.Sprintf("\x1b[38;5;%dm%s\x1b[0m", code, text)
}

// legend says what the signs mean that are in use.
func (t *terminal) legend() {
	t.printf("\n")
	for _, c := range legendOrder {
		if c == taken && t.byLabel || !t.has(c) {
			continue
		}
		glyph := strings.Repeat(looks[c].glyph, columns)
		if c == taken {
			glyph = "░▒▓█"
		}
		t.printf("%s  %s\n", t.coloured(looks[c].ansi, glyph), looks[c].name)
	}
	for _, band := range t.info.Spec.Bands {
		t.printf("band %s: %s\n", short(band.Name, 40), strings.Join(formatRanges(band.Ranges), ", "))
	}
	if !t.byLabel {
		return
	}
	t.printf("taken, by %s:\n", short(t.options.Label, 50))
	for _, l := range t.labels {
		t.printf("%s  %s: %s\n", t.sign(face{class: taken, colour: colourIndex(l.colour), shade: shades}),
			short(l.value, 60), formatCount(l.count))
	}
	if !t.unlabelled.IsZero() {
		t.printf("%s  without: %s\n", t.sign(face{class: taken, colour: colourIndex(unlabelled), shade: shades}),
			formatCount(t.unlabelled))
	}
}

// has reports whether there are addresses of the class.
func (t *terminal) has(c class) bool {
	for i := range t.families {
		if !t.families[i].counts[c].IsZero() {
			return true
		}
	}
	return false
}
