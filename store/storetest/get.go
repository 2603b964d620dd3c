package storetest

import (
	"errors"
	"strings"

	"github.com/ipalloc/ipalloc/store"
)

func getCases() []testCase {
	return []testCase{
		{"get/missing", getMissing},
		{"get/fresh", getFresh},
		{"get/invalid key", getInvalidKey},
	}
}

func getMissing(s *subject) {
	missing := []store.Key{
		headKey("b"), claimKey("a", "y"), claimKey("b", "x"), claimKey("a", ""),
		{Kind: store.KindSpace, Pool: "a", Name: "x"}, {Kind: "unknown", Pool: "a"},
	}
	for _, key := range append(missing, headKey("a"), claimKey("a", "x")) {
		s.lacks(ruleGet, key)
	}
	head := s.commit(newHead("a"), create(claim("a", "x")))
	s.holds(ruleGet, head)
	s.holds(ruleGet, at(claim("a", "x"), head.Revision))
	for _, key := range missing {
		s.lacks(ruleGet, key)
	}
}

// getFresh commits through one handle and reads through another, in turn.
func getFresh(s *subject) {
	handles := []store.Store{s.s, s.another()}
	head := newHead("a")
	for i := range 20 {
		writer, reader := handles[i%2], handles[1-i%2]
		head = s.commitOn(writer, head, put(claim("a", "x")))
		for _, key := range []store.Key{headKey("a"), claimKey("a", "x")} {
			got, ok := s.getFrom(reader, key)
			s.check(ok, ruleLinear, "%v is not there, after the commit that created it", key)
			s.check(got.Revision == head.Revision, ruleLinear, "%v has revision %d, after the commit of revision %d",
				key, got.Revision, head.Revision)
		}
	}
}

// invalidKeys break one rule of store.Key each.
func invalidKeys() []store.Key {
	return []store.Key{
		{},
		{Pool: "a", Name: "x"},
		{Kind: store.KindAllocation, Name: "x"},
		{Kind: store.KindAllocation, Pool: "a\x00b", Name: "x"},
		{Kind: store.KindAllocation, Pool: "a", Name: "x\x00"},
		{Kind: "k\x00", Pool: "a", Name: "x"},
		{Kind: store.KindAllocation, Pool: "a", Name: "\xff"},
		{Kind: store.KindAllocation, Pool: "\xc3\x28"},
		{Kind: store.KindAllocation, Pool: "a", Name: strings.Repeat("n", store.MaxNameBytes+1)},
		{Kind: store.KindAllocation, Pool: strings.Repeat("p", store.MaxNameBytes+1)},
		{Kind: store.Kind(strings.Repeat("k", store.MaxNameBytes+1)), Pool: "a"},
	}
}

func getInvalidKey(s *subject) {
	for _, key := range invalidKeys() {
		_, err := s.s.Get(s.ctx, key)
		s.check(errors.Is(err, store.ErrInvalid), ruleInvalidKey, "Get of %.80q returned the error %v", key, err)
	}
}
