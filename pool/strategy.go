package pool

import "fmt"

// Strategy says which free prefix a request gets, of all that it could have.
type Strategy uint8

// The strategies.
const (
	// LowestFree gives the lowest. It is the default: the pool stays packed, which keeps it small, and anybody can tell what comes next.
	LowestFree Strategy = iota
	// NextFree gives the lowest above the one that was given last, and starts again at the bottom when there is none (round robin). So an
	// address that was released is not seen again for as long as possible. Where the last one was is kept in the store.
	NextFree
	// RandomFree gives any, so that nobody can tell what comes next. It tries addresses at random until one is free, up to 16
	// times, so that each free one is as likely as any other unless the pool is nearly full; then it takes the next free one behind the last try.
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
