package pool

import "fmt"

// Strategy says which free prefix a request gets, of all that meet it. The zero Strategy is [LowestFree].
type Strategy uint8

// The strategies.
const (
	// LowestFree gives the lowest. It is the default: the pool stays packed, which keeps it small, and anybody can tell
	// which address comes next.
	LowestFree Strategy = iota
	// NextFree gives the lowest above the one that was given last, also if that was asked for exactly, and starts again
	// at the bottom when there is none (round robin). So a released address is not given again for as long as possible.
	// The place of the last one is kept in the store.
	NextFree
	// RandomFree gives a random one, so that nobody can tell which comes next. It tries up to 16 random addresses. So
	// each free one is as likely as any other, unless the pool is nearly full: then it takes the next free one behind
	// the last try.
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
