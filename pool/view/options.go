package view

// Options are the options of a picture. The zero Options, and a nil pointer to it, mean the
// defaults. Options may be copied.
type Options struct {
	// Label names the label of allocations whose values colour the map. Default: one colour for all.
	Label string

	// MaxCells is the largest number of cells that each family of an SVG has. A family with at most as many addresses has
	// a cell for each. Default: 4096, which is 64×64; at most 16384. For Text, Width decides.
	MaxCells int

	// Width is how many columns Text may use. A cell takes two. Default: 80; from 16 to 256.
	Width int

	// Color makes Text use colours, by the escape sequences for 256 colours (ISO 6429, with the palette
	// of xterm). Default: signs and letters only.
	Color bool
}

func (o *Options) withDefaults() Options {
	var with Options
	if o != nil {
		with = *o
	}
	if with.MaxCells <= 0 {
		with.MaxCells = 64 * 64
	}
	with.MaxCells = max(maxPanels, min(with.MaxCells, 128*128))
	if with.Width <= 0 {
		with.Width = 80
	}
	with.Width = max(16, min(with.Width, 256))
	return with
}
