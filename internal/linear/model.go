// Package linear records what concurrent clients of a pool ask for and are told, and has the checker porcupine decide
// whether the history is linearizable: whether all calls can be put in one order, in which each takes effect at one
// moment between its call and its return, and each answer is what a pool that serves one call at a time gives.
//
// The model of that pool says which address is granted: the lowest that is free. So a history is also refused if an
// address was passed over.
package linear

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/anishathalye/porcupine"

	"github.com/ipalloc/ipalloc/pool"
)

// method is what a client calls.
type method int

const (
	allocate method = iota
	allocateExact
	release
	renew
	get
	methods
)

// call is what a client asks. Owners and addresses are numbers from 1; addr is for allocateExact.
type call struct {
	method      method
	owner, addr byte
}

// answer is what it is told. addr is 0 with an error.
type answer struct {
	addr    byte
	err     error
	unknown bool // nothing is known of whether the call took effect
}

// model returns a pool of that many addresses. Its state is a string: the owner of each address, or 0.
func model(addresses int) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return strings.Repeat("\x00", addresses) },
		Step: func(state, input, output any) (bool, any) { return step(state.(string), input.(call), output.(answer)) },
		DescribeOperation: func(input, output any) string {
			return fmt.Sprintf("%+v -> %+v", input, output)
		},
	}
}

// step reports whether a pool in that state answers so, and the state after the call.
func step(owners string, c call, a answer) (bool, string) {
	want, after := c.on(owners)
	if a.unknown {
		// It may be put here, with its effect, or after everything else, where nobody sees an effect.
		return true, after
	}
	if want.err != nil {
		return errors.Is(a.err, want.err), owners
	}
	return a.err == nil && a.addr == want.addr, after
}

// on is what a pool answers, and its state afterwards.
func (c call) on(owners string) (answer, string) {
	held := byte(strings.IndexByte(owners, c.owner) + 1)
	switch {
	case c.method == allocate && held == 0:
		free := byte(strings.IndexByte(owners, 0) + 1)
		return granted(owners, c.owner, free, pool.ErrExhausted)
	case c.method == allocateExact && held == 0:
		free := c.addr
		if owners[c.addr-1] != 0 {
			free = 0
		}
		return granted(owners, c.owner, free, pool.ErrTaken)
	case c.method == allocateExact && held != c.addr:
		return answer{err: pool.ErrHeld}, owners
	case held == 0:
		return answer{err: pool.ErrNotFound}, owners
	case c.method == release:
		return answer{addr: held}, owners[:held-1] + "\x00" + owners[held:]
	}
	return answer{addr: held}, owners
}

// granted is the answer to an owner that gets the address free, or the error if that is 0.
func granted(owners string, owner, free byte, none error) (answer, string) {
	if free == 0 {
		return answer{err: none}, owners
	}
	return answer{addr: free}, owners[:free-1] + string([]byte{owner}) + owners[free:]
}

// first is the lowest address of the pools.
var first = netip.MustParseAddr("10.0.0.0")

func addrOf(n byte) netip.Addr {
	b := first.As4()
	b[3] = n
	return netip.AddrFrom4(b)
}

func numberOf(a netip.Addr) byte { return a.As4()[3] }
