package storetest

import (
	"errors"
	"net/netip"

	"github.com/ipalloc/ipalloc/store"
)

func aliasingCases() []testCase {
	return []testCase{
		{"aliasing/given", aliasingGiven},
		{"aliasing/returned", aliasingReturned},
		{"aliasing/in errors", aliasingErrors},
	}
}

// scribble overwrites what r shares with its copies.
func scribble(r store.Record) {
	for i := range r.Data {
		r.Data[i] = '9'
	}
	for name := range r.Labels {
		r.Labels[name] = "9"
	}
	for i := range r.Prefixes {
		r.Prefixes[i] = netip.MustParsePrefix("9.9.9.9/32")
	}
}

func aliasingGiven(s *subject) {
	head, written := fullRecord(headKey("a")), fullRecord(claimKey("a", "x"))
	writes := []store.Write{create(written)}
	stored := s.commit(head, writes...)
	scribble(head)
	scribble(written)
	writes[0] = store.Write{}
	s.holds(ruleBytes, at(fullRecord(headKey("a")), stored.Revision))
	s.holds(ruleBytes, at(fullRecord(claimKey("a", "x")), stored.Revision))
}

func aliasingReturned(s *subject) {
	stored := s.commit(fullRecord(headKey("a")), create(fullRecord(claimKey("a", "x"))))
	revision := stored.Revision
	verify := func(what string) {
		s.Helper()
		for _, key := range []store.Key{headKey("a"), claimKey("a", "x")} {
			got, _ := s.get(key)
			difference := diff(got, at(fullRecord(key), revision))
			s.check(difference == "", ruleBytes, "after a change to what %s returned, %v has %s", what, key, difference)
		}
	}
	scribble(stored)
	verify("Commit")
	for _, key := range []store.Key{headKey("a"), claimKey("a", "x")} {
		got, _ := s.get(key)
		scribble(got)
		verify("Get")
		for record := range s.list(key.Kind, "a") {
			scribble(s.list(key.Kind, "a")[record])
		}
		verify("List")
	}
	found, err := s.s.Find(s.ctx, "a", netip.MustParseAddr("10.1.2.3"))
	s.check(err == nil, ruleFind, "Find failed: %v", err)
	scribble(found)
	verify("Find")
	l := store.Labelled{Kind: store.KindAllocation, Pool: "a", Name: "node", Value: "n1"}
	for r, err := range store.ByLabel(s.ctx, s.s, l) {
		s.check(err == nil, ruleLabel, "ByLabel failed: %v", err)
		scribble(r)
	}
	verify("ByLabel")
}

func aliasingErrors(s *subject) {
	stored := s.commit(fullRecord(headKey("a")), create(fullRecord(claimKey("a", "x"))))
	verify := s.unchanged(headKey("a"), claimKey("a", "x"))
	var conflict *store.ConflictError
	if err := s.refused(ruleConflict, store.ErrConflict, newHead("a")); errors.As(err, &conflict) {
		scribble(conflict.Current)
	}
	var exists *store.ExistsError
	if err := s.refused(ruleExists, store.ErrExists, stored, create(claim("a", "x"))); errors.As(err, &exists) {
		for _, r := range exists.Records {
			scribble(r)
		}
	}
	verify(ruleBytes)
}
