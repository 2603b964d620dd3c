package space

import (
	"net/netip"
)

// change is one prefix that became free or taken.
type change struct {
	family Family
	prefix netip.Prefix
	free   bool
}

// Mark is a point in a transaction to go back to. The zero Mark is its start. It is a value, and is good until
// what was done before it is undone or stays for good.
type Mark struct{ changes, tallies, recounts, ownings int }

// Mark returns the present point. Cost: O(1).
func (s *Space) Mark() Mark {
	return Mark{len(s.journal), len(s.earlier), len(s.recounts), len(s.ownings)}
}

// Rollback undoes everything that was done since the mark. Rollback(Mark{}) undoes all since the last Committed,
// Keep or Load. Cost: O(what it undoes).
func (s *Space) Rollback(to Mark) {
	s.freed++
	for len(s.journal) > to.changes {
		last := s.journal[len(s.journal)-1]
		s.journal = s.journal[:len(s.journal)-1]
		// What was done last can always be undone, so there is no error.
		if free := s.byFamily[last.family].free; last.free {
			_ = free.Take(last.prefix)
		} else {
			_ = free.Release(last.prefix)
		}
	}
	for len(s.ownings) > to.ownings {
		last := s.ownings[len(s.ownings)-1]
		s.ownings = s.ownings[:len(s.ownings)-1]
		s.setOwned(last.whose, last.before)
	}
	for len(s.earlier) > to.tallies {
		last := &s.earlier[len(s.earlier)-1]
		s.tallies.families[last.family] = last.tally
		s.earlier = s.earlier[:len(s.earlier)-1]
	}
	for len(s.recounts) > to.recounts {
		last := s.recounts[len(s.recounts)-1]
		s.tallies.records[last.counter] = last.before
		s.recounts = s.recounts[:len(s.recounts)-1]
	}
}

// Keep ends a transaction: what has been done stays, and can be undone no more. It is for a space that is in no
// store. If it is in one all the same, the next Encode writes all of it. Cost: O(changes).
func (s *Space) Keep() {
	for _, c := range s.journal {
		s.byFamily[c.family].rewrite = true
	}
	s.forget()
}

// forget empties the journal.
func (s *Space) forget() {
	s.journal = s.journal[:0]
	s.earlier = s.earlier[:0]
	s.recounts = s.recounts[:0]
	s.ownings = s.ownings[:0]
}

// Changed reports whether anything has been done that Rollback(Mark{}) would undo.
func (s *Space) Changed() bool { return s.Mark() != Mark{} }
