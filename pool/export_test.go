package pool

import (
	"context"
	"time"
)

// Contend lets a handle in a store take turns from now on, as if it had lost to others.
func (p *Pool) Contend() { p.home.(*stored).rivalry = mostRivalry }

// ReadSnapshot reads a snapshot as one that no program has written like an export.
func ReadSnapshot(text []byte) (Snapshot, error) { return readSnapshot(text) }

// ReadExport reads a snapshot as one that is written like an export, and reports whether it is.
func ReadExport(text []byte) (Snapshot, bool) { return readExport(text) }

// Asked is what is asked for one owner: what Claim says or, if that is nil, a release or, if TTL is not 0, a renewal.
type Asked struct {
	Claim      *Claim
	Owner      string
	Generation int64
	TTL        time.Duration
	Optional   bool
	Waits      bool // the claim stands in a line
}

// AskOf returns the ask of an op; nil if it cannot ask.
func AskOf(p *Pool, whole bool, these []Asked) []byte {
	ask, _ := p.home.(*stored).askOf([]*op{opFor(p, whole, these)})
	return ask
}

func opFor(p *Pool, whole bool, these []Asked) *op {
	steps := make([]step, len(these))
	for i, each := range these {
		t := task{kind: taskRelease, owner: each.Owner, generation: each.Generation, optional: each.Optional}
		switch {
		case each.Claim != nil:
			t = task{kind: taskAllocate, owner: each.Claim.Owner, claim: each.Claim}
			if each.Waits {
				t.line = &lineOrder{}
			}
		case each.TTL != 0:
			t = task{kind: taskRenew, owner: each.Owner, ttl: each.TTL}
		}
		steps[i].task = t
	}
	return opOf(context.Background(), p, whole, steps)
}

// ReadAsk returns what an ask of one op asks for, and reports whether another handle would do it.
func ReadAsk(p *Pool, ask []byte) (these []Asked, whole, ok bool) {
	g, ok := p.guestOf(context.Background(), 0, ask)
	if !ok {
		return nil, false, false
	}
	for _, s := range g.ops[0].parts[0].steps {
		each := Asked{Claim: s.claim, Owner: s.owner, Generation: s.generation, TTL: s.ttl, Optional: s.optional}
		if s.claim != nil {
			each = Asked{Claim: s.claim, Waits: s.line != nil}
		}
		these = append(these, each)
	}
	return these, g.ops[0].whole, true
}

// Serve takes an answer to what was asked for.
func Serve(p *Pool, these []Asked, answer []byte) error {
	_, asking := p.home.(*stored).askOf([]*op{opFor(p, false, these)})
	return asking.served(answer, 1)
}
