package storetest

import (
	"errors"

	"github.com/ipalloc/ipalloc/store"
)

func conflictCases() []testCase {
	return []testCase{
		{"conflict/stale head", conflictStale},
		{"conflict/head from the future", conflictFuture},
		{"conflict/head exists", conflictHeadExists},
		{"conflict/head missing", conflictHeadMissing},
		{"conflict/before exists", conflictBeforeExists},
		{"conflict/after delete and create", conflictRecreated},
	}
}

// conflicts commits what must fail with a conflict, changes nothing and carries current.
func (s *subject) conflicts(head, current store.Record, writes ...store.Write) {
	s.Helper()
	keys := []store.Key{head.Key}
	for _, w := range writes {
		if w.Record.Key != head.Key {
			keys = append(keys, w.Record.Key)
		}
	}
	verify := s.unchanged(keys...)
	err := s.refused(ruleConflict, store.ErrConflict, head, writes...)
	verify(ruleFailed)
	var conflict *store.ConflictError
	s.check(errors.As(err, &conflict), ruleConflict, "the error %q has the type %T", err, err)
	s.check(conflict.Expected == head.Revision, ruleConflict, "the error says that revision %d was expected, not %d",
		conflict.Expected, head.Revision)
	s.same(ruleConflictCurrent, "the current head in the error", conflict.Current, current)
}

func conflictStale(s *subject) {
	first := fullRecord(headKey("a"))
	first = s.commit(first)
	second := s.commit(first, create(claim("a", "x")))
	second.State = "third"
	third := s.commit(second)
	for _, stale := range []store.Record{first, second} {
		s.conflicts(stale, third)
		s.conflicts(stale, third, create(claim("a", "y")))
		s.conflicts(stale, third, put(claim("a", "x")))
		s.conflicts(stale, third, remove(claimKey("a", "x")))
		s.conflicts(stale, third, remove(headKey("a")))
	}
}

func conflictFuture(s *subject) {
	head := s.commit(newHead("a"))
	s.conflicts(at(head, head.Revision+1), head, create(claim("a", "x")))
	s.conflicts(at(head, head.Revision+1<<40), head, create(claim("a", "x")))
}

func conflictHeadExists(s *subject) {
	head := s.commit(fullRecord(headKey("a")))
	s.check(head.Revision != 0, ruleNoHead, "the head has revision 0")
	s.conflicts(newHead("a"), head)
	s.conflicts(newHead("a"), head, create(claim("a", "x")))
}

func conflictHeadMissing(s *subject) {
	s.conflicts(at(fullRecord(headKey("a")), 1), newHead("a"), create(claim("a", "x")))
	head := s.commit(newHead("a"))
	s.conflicts(at(newHead("b"), head.Revision), newHead("b"), create(claim("b", "x")))
}

func conflictBeforeExists(s *subject) {
	stale := s.commit(newHead("a"), create(claim("a", "x")))
	head := s.commit(stale)
	s.conflicts(stale, head, create(claim("a", "x")))
	s.conflicts(newHead("a"), head, create(claim("a", "x")))
	s.conflicts(at(newHead("b"), 1), newHead("b"), create(claim("a", "x")))
}

// conflictRecreated looks for revisions that come again and let a stale head through.
func conflictRecreated(s *subject) {
	old := s.commit(newHead("a"))
	s.commit(old, remove(headKey("a")))
	s.conflicts(old, newHead("a"))
	head := s.commit(newHead("a"))
	s.conflicts(old, head, create(claim("a", "x")))
}
