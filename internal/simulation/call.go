package simulation

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ipalloc/ipalloc/store"
)

// Call is one call of a process to the library, with what its commits have changed. An error that does not wrap
// [store.ErrUnknown] says that the call has changed nothing, and never will.
type Call struct {
	What string

	world   *World
	cancel  context.CancelFunc
	steps   int // after how many more the context ends; -1 for never
	changed []joint
	denied  func(Change) bool // once it has ended: what it has said that it did not change
	answer  error
}

// joint is a change that some of these calls have made.
type joint struct {
	Change
	by []*Call
}

// Change is a record that a call has changed.
type Change struct {
	// Before and Now are the record; a Revision of 0 means that there is none.
	Before, Now store.Record
}

// String says what the record was and what it is.
func (c Change) String() string {
	describe := func(r store.Record) string {
		if r.Revision == 0 {
			return "nothing"
		}
		return fmt.Sprintf("%s %v at %d %s", r.State, r.Prefixes, r.Revision, r.Data)
	}
	return fmt.Sprintf("%v from %s to %s", c.Now.Key, describe(c.Before), describe(c.Now))
}

// longestPatience is how many steps a context lasts at most, if it ends.
const longestPatience = 12

// Begin begins a call, which is under way until [Call.End]. Its context may end at any step.
func (p *Process) Begin(what string) (context.Context, *Call) {
	ctx, cancel := context.WithCancel(context.Background())
	c := &Call{What: p.Name + ": " + what, world: p.World, cancel: cancel, steps: -1}
	if p.World.chance(p.World.Rates.Cancel) {
		if c.steps = p.World.Random.IntN(longestPatience); c.steps == 0 {
			cancel()
		}
	}
	p.call = c
	p.World.trace("%s begins", c.What)
	return ctx, c
}

// step ends the context if it is time.
func (c *Call) step() {
	if c.steps > 0 {
		if c.steps--; c.steps == 0 {
			c.cancel()
		}
	}
}

// End ends a call with its answer, by which it has not made the changes for which denied is true.
func (c *Call) End(answer error, denied func(Change) bool) {
	c.cancel()
	c.denied, c.answer = denied, answer
	c.world.trace("%s ends: %v", c.What, answer)
	for _, each := range c.changed {
		c.check(each)
	}
}

// IsPlain reports whether an error says that nothing has changed.
func IsPlain(err error) bool { return err != nil && !errors.Is(err, store.ErrUnknown) }

// noteChange notes that some of these calls have made a change. One that is nil is nobody's.
func noteChange(each Change, by ...*Call) {
	if slices.Contains(by, nil) {
		return
	}
	for _, c := range by {
		c.world.trace("%s changes %v", c.What, each)
		c.changed = append(c.changed, joint{each, by})
	}
	by[0].check(joint{each, by})
}

// check fails the run if all who may have made a change say that they have not.
func (c *Call) check(each joint) {
	for _, other := range each.by {
		if other.denied == nil || !other.denied(each.Change) {
			return
		}
	}
	c.world.Fail("%s changed %v, and said: %v", c.What, each.Change, c.answer)
}
