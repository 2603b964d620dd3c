package storetest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ipalloc/ipalloc/store"
)

// readCases are about stores that read many records at once.
func readCases() []testCase {
	return []testCase{
		{"get all/in order", readOrder},
		{"get all/fresh", readFresh},
		{"get all/many", readMany},
		{"get all/invalid key", readInvalid},
		{"get all/aliasing", readAliasing},
	}
}

// readAll reads what must be readable, and checks that it is what Get returns.
func (s *subject) readAll(handle store.Store, keys ...store.Key) []store.Record {
	s.Helper()
	reader, ok := handle.(store.Reader)
	if !ok {
		s.Skip("the store is no store.Reader: it reads records one by one")
	}
	asked := slices.Clone(keys)
	records, err := reader.GetAll(s.ctx, asked...)
	s.check(err == nil, ruleGetAll, "GetAll of %d keys failed: %v", len(keys), err)
	s.check(slices.Equal(asked, keys), ruleBytes, "GetAll changed the keys that it was given")
	s.check(len(records) == len(keys), ruleGetAll, "GetAll of %d keys returned %d records", len(keys), len(records))
	for i, key := range keys {
		want, exists := s.getFrom(handle, key)
		rule := ruleGetAll
		if !exists {
			rule, want = ruleGetAllMissing, store.Record{Key: key}
		}
		s.same(rule, fmt.Sprintf("record %d of GetAll", i), records[i], want)
	}
	return records
}

func readOrder(s *subject) {
	s.readAll(s.s, headKey("a"), claimKey("a", "x"))
	s.commitAll(change(fullRecord(headKey("b")), create(fullRecord(claimKey("b", "x"))), create(claim("b", "y"))),
		change(newHead("a"), create(claim("a", "x"))))
	s.readAll(s.s)
	s.readAll(s.s, claimKey("b", "x"))
	s.readAll(s.s, claimKey("b", "missing"))
	s.readAll(s.s, claimKey("b", "y"), headKey("b"), claimKey("a", "missing"), claimKey("a", "x"), claimKey("b", "x"),
		headKey("a"), headKey("c"), claimKey("b", "missing"), store.Key{Kind: "unknown", Pool: "a", Name: "x"})
	twice := s.readAll(s.s, headKey("b"), claimKey("a", "y"), headKey("b"), claimKey("a", "y"), headKey("a"))
	s.same(ruleGetAllTwice, "a record that GetAll returned again", twice[2], twice[0])
}

// readFresh commits through one handle and reads through another, in turn.
func readFresh(s *subject) {
	handles := []store.Store{s.s, s.another()}
	head := newHead("a")
	for i := range 20 {
		writer, reader := handles[i%2], handles[1-i%2]
		head = s.commitOn(writer, head, put(claim("a", "x")), remove(claimKey("a", fmt.Sprint("y", i-1))),
			create(claim("a", fmt.Sprint("y", i))))
		for j, r := range s.readAll(reader, headKey("a"), claimKey("a", "x"), claimKey("a", fmt.Sprint("y", i-1)),
			claimKey("a", fmt.Sprint("y", i))) {
			s.check((r.Revision == head.Revision) == (j != 2), ruleLinear, "%v has revision %d, after the commit of revision %d",
				r.Key, r.Revision, head.Revision)
		}
	}
}

// readMany reads more records than a backend may take at once.
func readMany(s *subject) {
	const records, each = 300, 50
	head, keys := newHead("a"), []store.Key(nil)
	for i := 0; i < records; i += each {
		var writes []store.Write
		for j := range each {
			r := claim("a", fmt.Sprint("x", i+j))
			writes = append(writes, create(r))
			keys = append(keys, r.Key, claimKey("a", fmt.Sprint("missing", i+j)))
		}
		head = s.commit(head, writes...)
	}
	slices.Reverse(keys)
	s.readAll(s.s, keys...)
}

func readInvalid(s *subject) {
	reader, ok := s.s.(store.Reader)
	if !ok {
		s.Skip("the store is no store.Reader: it reads records one by one")
	}
	s.commit(newHead("a"))
	for _, key := range invalidKeys() {
		_, err := reader.GetAll(s.ctx, headKey("a"), key)
		s.check(errors.Is(err, store.ErrInvalid), ruleInvalidKey, "GetAll of a valid key and %.80q returned the error %v",
			key, err)
	}
}

func readAliasing(s *subject) {
	s.commit(fullRecord(headKey("a")), create(fullRecord(claimKey("a", "x"))))
	for range 2 {
		records := s.readAll(s.s, headKey("a"), claimKey("a", "x"), headKey("a"))
		scribble(records[0])
		s.check(diff(records[2], at(fullRecord(headKey("a")), records[2].Revision)) == "", ruleBytes,
			"of a key that GetAll was given twice, a change to the one record changed the other")
		scribble(records[1])
		scribble(records[2])
		for _, key := range []store.Key{headKey("a"), claimKey("a", "x")} {
			s.holds(ruleBytes, at(fullRecord(key), records[0].Revision))
		}
	}
}
