package view

// grid is a rectangle of 2^bits cells in the order of a Hilbert curve: a square, or for odd bits two squares side by
// side. Cells that follow each other touch, and an aligned block of cells is a square or a rectangle of 2:1.
type grid struct{ bits int }

func (g grid) cells() int { return 1 << g.bits }

func (g grid) height() int { return 1 << (g.bits / 2) }

func (g grid) width() int { return 1 << (g.bits - g.bits/2) }

// point is a column and a row, from the top left.
type point struct{ x, y int }

// at returns where cell i is. The curve of a square begins at the top left and ends at the top right,
// so that a second square goes on beside it.
func (g grid) at(i int) point {
	square, i := i>>(g.bits/2*2), i&(1<<(g.bits/2*2)-1)
	var p point
	for side := 1; side < g.height(); side *= 2 {
		right, down := i>>1&1, (i^i>>1)&1
		if down == 0 {
			if right == 1 {
				p.x, p.y = side-1-p.x, side-1-p.y
			}
			p.x, p.y = p.y, p.x
		}
		p.x += side * right
		p.y += side * down
		i >>= 2
	}
	p.x += square * g.height()
	return p
}

// block is a rectangle of cells.
type block struct {
	point
	width, height int
}

// block returns the aligned block of 2^bits cells that begins with cell i.
func (g grid) block(i, bits int) block {
	side := 1 << (bits / 2)
	first := g.square(i, side)
	if bits%2 == 0 {
		return block{first, side, side}
	}
	second := g.square(i+side*side, side)
	corner := point{min(first.x, second.x), min(first.y, second.y)}
	return block{corner, max(first.x, second.x) - corner.x + side, max(first.y, second.y) - corner.y + side}
}

// square returns the corner of the aligned square that cell i is in.
func (g grid) square(i, side int) point {
	p := g.at(i)
	return point{p.x &^ (side - 1), p.y &^ (side - 1)}
}
