package linear

import (
	"fmt"
	"strings"
)

// Replay returns an error unless the model answers as the pool did, in the order of the calls of one client.
func (h History) Replay() error {
	state := strings.Repeat("\x00", h.addresses)
	for i, o := range h.operations {
		ok, after := step(state, o.Input.(call), o.Output.(answer))
		if !ok {
			return fmt.Errorf("call %d, of owners %q: %+v -> %+v", i, state, o.Input, o.Output)
		}
		state = after
	}
	return nil
}
