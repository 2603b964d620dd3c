package storetest

import "github.com/ipalloc/ipalloc/store"

func deleteCases() []testCase {
	return []testCase{
		{"delete/record", deleteRecord},
		{"delete/missing", deleteMissing},
		{"delete/only the key counts", deleteKeyOnly},
		{"delete/head", deleteHead},
		{"delete/head with its records", deleteHeadAndRecords},
		{"delete/head that is missing", deleteMissingHead},
		{"delete/revisions do not come again", deleteRecreate},
	}
}

func deleteRecord(s *subject) {
	head := s.commit(newHead("a"), create(claim("a", "x")), create(claim("a", "y")))
	first := head.Revision
	head = s.commit(head, remove(claimKey("a", "x")))
	s.lacks(ruleDelete, claimKey("a", "x"))
	s.holds(ruleDelete, at(claim("a", "y"), first))
	s.holds(ruleDelete, head)
	s.check(len(s.list(store.KindAllocation, "a")) == 1, ruleDelete, "List still yields the deleted record")
}

func deleteMissing(s *subject) {
	head := s.commit(newHead("a"), remove(claimKey("a", "x")))
	s.holds(ruleDeleteMissing, head)
	head = s.commit(head, remove(claimKey("a", "x")), create(claim("a", "y")), remove(claimKey("b", "y")))
	s.holds(ruleDeleteMissing, head)
	s.holds(ruleDeleteMissing, at(claim("a", "y"), head.Revision))
	s.lacks(ruleDeleteMissing, claimKey("a", "x"))
}

// deleteKeyOnly deletes with a record whose other fields would not be valid.
func deleteKeyOnly(s *subject) {
	head := s.commit(newHead("a"), create(claim("a", "x")))
	w := remove(claimKey("a", "x"))
	w.Record.Data, w.Record.State, w.Record.Revision = []byte("{"), "\xff", 7
	s.commit(head, w)
	s.lacks(ruleDelete, claimKey("a", "x"))
}

func deleteHead(s *subject) {
	head := s.commit(newHead("a"), create(claim("a", "x")))
	first := head.Revision
	gone := s.commit(head, remove(headKey("a")))
	s.check(gone.Revision > first, ruleDeleteHead, "the head returned has revision %d, after revision %d",
		gone.Revision, first)
	s.lacks(ruleDeleteHead, headKey("a"))
	s.holds(ruleDeleteHead, at(claim("a", "x"), first))
	again := s.commit(newHead("a"), put(claim("a", "x")))
	s.holds(ruleDeleteHead, again)
	s.check(again.Revision > gone.Revision, ruleRising, "the head has revision %d when created again, and %d when deleted",
		again.Revision, gone.Revision)
}

func deleteHeadAndRecords(s *subject) {
	head := s.commit(newHead("a"), create(claim("a", "x")), create(claim("a", "y")))
	gone := s.commit(head, remove(claimKey("a", "x")), remove(headKey("a")), put(claim("a", "z")))
	s.lacks(ruleDeleteHead, headKey("a"))
	s.lacks(ruleDeleteHead, claimKey("a", "x"))
	s.holds(ruleDeleteHead, at(claim("a", "z"), gone.Revision))
	s.check(len(s.list(store.KindPool, "")) == 0, ruleDeleteHead, "List still yields the deleted head")
}

// deleteMissingHead commits under the guard that there is no head, and leaves none.
func deleteMissingHead(s *subject) {
	gone := s.commit(newHead("a"), remove(headKey("a")), create(claim("a", "x")))
	s.lacks(ruleDeleteHead, headKey("a"))
	s.holds(ruleDeleteHead, at(claim("a", "x"), gone.Revision))
}

func deleteRecreate(s *subject) {
	head, guard := newHead("a"), s.commit(newHead("guard"))
	var latestHead, latestClaim int64
	for range 4 {
		head = s.commit(newHead("a"))
		s.check(head.Revision > latestHead, ruleRising, "the head has revision %d, after revision %d",
			head.Revision, latestHead)
		guard = s.commit(guard, create(claim("guard", "x")))
		got, _ := s.get(claimKey("guard", "x"))
		s.check(got.Revision > latestClaim, ruleRising, "the record has revision %d, after revision %d",
			got.Revision, latestClaim)
		latestHead = s.commit(head, remove(headKey("a"))).Revision
		guard = s.commit(guard, remove(claimKey("guard", "x")))
		latestClaim = got.Revision
		s.reopen()
	}
}
