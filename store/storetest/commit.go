package storetest

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ipalloc/ipalloc/store"
)

func commitCases() []testCase {
	return []testCase{
		{"commit/head alone", commitHeadAlone},
		{"commit/one revision", commitOneRevision},
		{"commit/put", commitPut},
		{"commit/create", commitCreate},
		{"commit/create what exists", commitExists},
		{"commit/all or nothing", commitAllOrNothing},
		{"commit/many writes", commitManyWrites},
		{"commit/heads of two pools", commitTwoHeads},
		{"commit/head of any kind", commitAnyHead},
	}
}

func commitHeadAlone(s *subject) {
	head := newHead("a")
	for i := range 5 {
		head.State = fmt.Sprint("state ", i)
		head.Data = json.RawMessage(fmt.Sprintf(`{"n":%d}`, i))
		head = s.commit(head)
		s.holds(ruleCommit, head)
	}
}

func commitOneRevision(s *subject) {
	head := s.commit(newHead("a"), create(claim("a", "deleted")), create(claim("a", "replaced")),
		create(claim("a", "left")))
	first := head.Revision
	head = s.commit(head,
		create(at(claim("a", "created"), first+1000)),
		put(at(claim("a", "put"), first+1000)),
		put(at(claim("a", "replaced"), 1)),
		remove(claimKey("a", "deleted")))
	s.holds(ruleRevision, head)
	for _, name := range []string{"created", "put", "replaced"} {
		s.holds(ruleRevision, at(claim("a", name), head.Revision))
	}
	s.holds(ruleRevision, at(claim("a", "left"), first))
}

func commitPut(s *subject) {
	full := fullRecord(claimKey("a", "x"))
	head := s.commit(newHead("a"), put(full))
	s.holds(rulePut, at(full, head.Revision))
	bare := store.Record{Key: full.Key}
	head = s.commit(head, put(bare))
	s.holds(rulePut, at(bare, head.Revision))
	head = s.commit(head, put(full))
	s.holds(rulePut, at(full, head.Revision))
}

func commitCreate(s *subject) {
	head := s.commit(newHead("a"), create(claim("a", "x")))
	s.holds(ruleCommit, at(claim("a", "x"), head.Revision))
	head = s.commit(head, create(claim("a", "y")))
	s.holds(ruleCommit, at(claim("a", "y"), head.Revision))
}

func commitExists(s *subject) {
	standing := []store.Record{fullRecord(claimKey("a", "x")), claim("a", "y")}
	head := s.commit(newHead("a"), create(standing[0]), create(standing[1]))
	for i := range standing {
		standing[i].Revision = head.Revision
	}
	verify := s.unchanged(headKey("a"), claimKey("a", "x"), claimKey("a", "y"), claimKey("a", "z"))
	err := s.refused(ruleExists, store.ErrExists, head, create(claim("a", "z")), create(claim("a", "x")))
	verify(ruleFailed)
	s.existsWith(err, standing[:1])
	err = s.refused(ruleExists, store.ErrExists, head, create(claim("a", "y")), create(claim("a", "x")))
	verify(ruleFailed)
	s.existsWith(err, standing)
	s.commit(head, create(claim("a", "z")))
}

// existsWith checks that err is an ExistsError with some of the standing records.
func (s *subject) existsWith(err error, standing []store.Record) {
	s.Helper()
	var exists *store.ExistsError
	s.check(errors.As(err, &exists), ruleExists, "the error %q has the type %T", err, err)
	s.check(len(exists.Records) > 0 && len(exists.Records) <= len(standing), ruleExistsRecords,
		"the error has %d records, want 1 to %d", len(exists.Records), len(standing))
	for _, got := range exists.Records {
		found := false
		for _, want := range standing {
			if got.Key == want.Key {
				found = true
				s.same(ruleExistsRecords, "the record in the error", got, want)
			}
		}
		s.check(found, ruleExistsRecords, "%v is in the error", got.Key)
	}
}

// commitAllOrNothing fails a commit at its last write, and expects none of those before to show.
func commitAllOrNothing(s *subject) {
	head := s.commit(newHead("a"), create(claim("a", "x")), create(claim("a", "replaced")), create(claim("a", "deleted")))
	verify := s.unchanged(headKey("a"), claimKey("a", "x"), claimKey("a", "created"), claimKey("a", "put"),
		claimKey("a", "replaced"), claimKey("a", "deleted"))
	replaced := claim("a", "replaced")
	replaced.State = "other"
	head.State = "other"
	writes := []store.Write{
		create(claim("a", "created")), put(claim("a", "put")), put(replaced), remove(claimKey("a", "deleted")),
		create(claim("a", "x")),
	}
	s.refused(ruleExists, store.ErrExists, head, writes...)
	verify(ruleFailed)
	s.refused(ruleConflict, store.ErrConflict, at(head, head.Revision+1), writes...)
	verify(ruleFailed)
	stored := s.commit(head, writes[:4]...)
	s.holds(ruleCommit, stored)
	s.holds(ruleCommit, at(replaced, stored.Revision))
	s.holds(ruleCommit, at(claim("a", "created"), stored.Revision))
	s.holds(ruleCommit, at(claim("a", "put"), stored.Revision))
	s.lacks(ruleCommit, claimKey("a", "deleted"))
}

func commitManyWrites(s *subject) {
	const n = 40
	var creates, changes []store.Write
	for i := range n {
		r := claim("a", fmt.Sprint("owner-", i))
		creates = append(creates, create(r))
		if r.State = "other"; i%2 == 0 {
			changes = append(changes, put(r))
		} else {
			changes = append(changes, remove(r.Key))
		}
	}
	first := s.commit(newHead("a"), creates...)
	for _, w := range creates {
		s.holds(ruleCommit, at(w.Record, first.Revision))
	}
	second := s.commit(first, changes...)
	for _, w := range changes {
		if w.Op == store.Put {
			s.holds(ruleCommit, at(w.Record, second.Revision))
		} else {
			s.lacks(ruleCommit, w.Record.Key)
		}
	}
}

func commitTwoHeads(s *subject) {
	a, b := s.commit(newHead("a")), s.commit(newHead("b"))
	for range 3 {
		a = s.commit(a, put(claim("a", "x")))
	}
	s.holds(ruleCommit, b)
	b = s.commit(b, put(claim("b", "x")))
	s.holds(ruleCommit, a)
	s.holds(ruleCommit, at(claim("a", "x"), a.Revision))
	s.holds(ruleCommit, at(claim("b", "x"), b.Revision))
}

func commitAnyHead(s *subject) {
	for _, key := range []store.Key{
		{Kind: store.KindSpace, Pool: "a", Name: "1"}, claimKey("a", "x"), {Kind: "counter", Pool: "a"},
	} {
		other := store.Record{Key: store.Key{Kind: "note", Pool: key.Pool, Name: key.Name}}
		head := s.commit(store.Record{Key: key}, put(other))
		head = s.commit(head, put(other))
		s.holds(ruleKind, head)
		s.holds(ruleKind, at(other, head.Revision))
		s.refused(ruleConflict, store.ErrConflict, at(head, head.Revision-1))
	}
}
