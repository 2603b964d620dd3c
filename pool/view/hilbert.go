package view

// grid is a rectangle of 2^bits cells in the order of a Hilbert curve: a square, or for odd bits two squares side by side. Cells that
// follow each other touch, and an aligned block of 2^n cells is a square or a rectangle of 2:1.
type grid struct{ bits int }

func (g grid) cells() int { return 1 << g.bits }
func (g grid) height() int {
	return 1 << (g.bits / 2)
}

func (g grid) width() int { return g.cells() / g.height() }

// point is where a cell is: column and row, from the top left.
type point struct{ x, y int }

// at returns where cell i is. The curve of a square begins at the top left and ends at the top right, so that a second square
// goes on beside it.
func (g grid) at(i int) point {
	side := g.height()
	square, i := i/(side*side), i%(side*side)
	var p point
	for s := 1; s < side; s *= 2 {
		right, down := i>>1&1, (i^i>>1)&1
		if down == 0 {
			if right == 1 {
				p.x, p.y = s-1-p.x, s-1-p.y
			}
			p.x, p.y = p.y, p.x
		}
		p.x += s * right
		p.y += s * down
		i >>= 2
	}
	p.x += square * side
	return p
}

// rectangle returns the corner and the size, in cells, of an aligned block of 2^bits cells that begins with cell i.
func (g grid) rectangle(i, bits int) (corner point, width, height int) {
	first, last := g.at(i), g.at(i+1<<bits-1)
	if bits%2 == 1 { // the curve of a 2:1 block may begin and end on the same long side
		last = g.at(i + 1<<(bits-1) - 1)
		middle := g.at(i + 1<<(bits-1))
		end := g.at(i + 1<<bits - 1)
		return bounds(first, last, middle, end)
	}
	quarter := 1 << max(bits-2, 0)
	if bits < 2 {
		quarter = 0
	}
	return bounds(first, g.at(i+quarter), g.at(i+2*quarter), last)
}

// bounds returns the smallest rectangle that has all the points.
func bounds(points ...point) (corner point, width, height int) {
	corner, end := points[0], points[0]
	for _, p := range points[1:] {
		corner = point{min(corner.x, p.x), min(corner.y, p.y)}
		end = point{max(end.x, p.x), max(end.y, p.y)}
	}
	return corner, end.x - corner.x + 1, end.y - corner.y + 1
}
