package pool

import "fmt"

// Strategy says which of the free prefixes that meet a request is granted. The zero Strategy is [LowestFree].
type Strategy uint8

// The strategies.
const (
	// LowestFree grants the lowest one. It is the default: the pool stays packed, which keeps it small, and the next
	// address is predictable.
	LowestFree Strategy = iota
	// NextFree grants the lowest one above the last one granted, even if that was an exact request, and starts again at
	// the bottom when there is none (round robin). So a released address is not reused for as long as possible. The
	// store keeps the last position.
	NextFree
	// RandomFree grants a random one, so that the next address is not predictable. It tries up to 16 random addresses.
	// So all free ones are equally likely, unless the pool is nearly full: then it takes the next free one after the
	// last try.
	RandomFree
)

var strategyNames = [...]string{"lowest", "next", "random"}

// String returns "lowest", "next" or "random".
func (s Strategy) String() string {
	if int(s) < len(strategyNames) {
		return strategyNames[s]
	}
	return fmt.Sprintf("Strategy(%d)", uint8(s))
}

// MarshalText returns what String does. An unknown strategy is an error that wraps [ErrInvalid].
func (s Strategy) MarshalText() ([]byte, error) {
	if int(s) >= len(strategyNames) {
		return nil, invalid("%v is not a strategy", s)
	}
	return []byte(s.String()), nil
}

// UnmarshalText reads what MarshalText writes. Any other text is an error that wraps [ErrInvalid].
func (s *Strategy) UnmarshalText(text []byte) error {
	for i, name := range strategyNames {
		if string(text) == name {
			*s = Strategy(i)
			return nil
		}
	}
	return invalid("%q is not a strategy, want one of %q", text, strategyNames)
}
