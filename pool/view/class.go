package view

// class is what an address is to the pool. Each address of a picture has exactly one.
type class uint8

const (
	outside    class = iota // none of the pool's
	free                    // could be handed out
	taken                   // held
	cooling                 // released and withheld
	kept                    // reserved for an owner that does not hold it
	reserved                // the first or last of a subnet, or one that no pool hands out
	excluded                // as the spec says
	external                // somebody else's in the network
	gateway                 // of a subnet, in the ranges or not
	outOfRange              // held, cooling or kept, though the pool does not hand it out any more
	classes    = int(outOfRange) + 1
)

// look is how a class is called and shown.
type look struct {
	name  string // in legends
	style string // the style class in an SVG
	glyph string // in a terminal
	ansi  int    // its colour of 256 there
}

var looks = [classes]look{
	outside:    {"not in the pool", "o", " ", 0},
	free:       {"free", "f", "·", 245},
	taken:      {"taken", "t", "█", 32},
	cooling:    {"cooling", "c", "~", 80},
	kept:       {"kept", "p", "=", 117},
	reserved:   {"reserved", "r", "-", 243},
	excluded:   {"excluded", "e", "x", 243},
	external:   {"external", "n", "#", 137},
	gateway:    {"gateway", "g", "@", 255},
	outOfRange: {"out of range", "w", "!", 202},
}

// held reports whether somebody has, or had, the addresses.
func (c class) held() bool { return c == taken || c == cooling || c == kept || c == outOfRange }

// legendOrder is how legends list the classes; outside is in none.
var legendOrder = []class{taken, free, cooling, kept, outOfRange, gateway, reserved, excluded, external}
