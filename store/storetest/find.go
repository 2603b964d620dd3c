package storetest

import (
	"errors"
	"net/netip"
	"strings"

	"github.com/ipalloc/ipalloc/store"
)

func findCases() []testCase {
	return []testCase{
		{"find/containing prefix", findContaining},
		{"find/longest prefix", findLongest},
		{"find/after changes", findAfterChanges},
		{"find/overlap refused", findOverlapRefused},
		{"find/pools and kinds apart", findApart},
		{"find/addresses in no prefix", findNoPrefix},
		{"find/invalid pool", findInvalid},
	}
}

// holding returns an allocation of pool with prefixes, which spaces separate in text.
func holding(pool, name, text string) store.Record {
	r := claim(pool, name)
	for _, p := range strings.Fields(text) {
		r.Prefixes = append(r.Prefixes, netip.MustParsePrefix(p))
	}
	return r
}

// finds checks that the allocation of pool with addr is the one called name; "" for none.
func (s *subject) finds(rule, pool, addr, name string) {
	s.Helper()
	got, err := s.s.Find(s.ctx, pool, netip.MustParseAddr(addr))
	switch {
	case name == "":
		s.check(errors.Is(err, store.ErrNotFound), rule, "Find of %s in pool %q found %v, %v, want nothing", addr, pool,
			got.Key, err)
	case err != nil:
		s.broken(rule, "Find of %s in pool %q failed: %v, want %q", addr, pool, err, name)
	default:
		s.check(got.Key == claimKey(pool, name), rule, "Find of %s in pool %q found %v, want %q", addr, pool, got.Key,
			name)
		s.holds(rule, got)
	}
}

func findContaining(s *subject) {
	s.finds(ruleFind, "a", "10.0.0.1", "")
	s.commit(newHead("a"),
		create(holding("a", "one", "10.0.0.1/32")),
		create(holding("a", "dual", "10.0.0.2/32 2001:db8::2/128")),
		create(holding("a", "node", "10.1.4.0/24 2001:db8:0:1::/64")),
		create(holding("a", "none", "")),
		create(holding("a", "edges", "0.0.0.0/32 255.255.255.255/32 ::/128 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128")))
	for addr, name := range map[string]string{
		"10.0.0.1": "one", "10.0.0.2": "dual", "10.0.0.3": "", "10.0.0.0": "",
		"2001:db8::2": "dual", "2001:db8::1": "", "2001:db8::3": "",
		"10.1.4.0": "node", "10.1.4.77": "node", "10.1.4.255": "node", "10.1.3.255": "", "10.1.5.0": "",
		"2001:db8:0:1::": "node", "2001:db8:0:1:ffff:ffff:ffff:ffff": "node", "2001:db8:0:2::": "", "2001:db8:0:0:ffff::": "",
		"0.0.0.0": "edges", "0.0.0.1": "", "255.255.255.255": "edges", "::": "edges", "::1": "",
		"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": "edges", "2001:db8::2%eth0": "dual", "a00:1::": "", "a00:2::": "",
	} {
		s.finds(ruleFind, "a", addr, name)
	}
}

func findLongest(s *subject) {
	if s.backend.NoOverlap { // all in one record
		s.commit(newHead("a"), create(holding("a", "nested", "10.0.0.0/8 10.0.0.7/32 10.0.0.0/24")),
			create(holding("a", "other", "11.0.0.0/8")))
		s.finds(ruleFind, "a", "10.0.0.7", "nested")
		s.finds(ruleFind, "a", "10.0.1.7", "nested")
		return
	}
	s.commit(newHead("a"),
		create(holding("a", "all", "0.0.0.0/0")),
		create(holding("a", "eight", "10.0.0.0/8 2001:db8::/32")),
		create(holding("a", "host", "10.0.0.7/32")),
		create(holding("a", "net", "10.0.0.0/24 2001:db8::/127")),
		create(holding("a", "twice", "192.0.2.1/32 192.0.2.1/32 192.0.2.0/31")))
	for addr, name := range map[string]string{
		"11.0.0.0": "all", "10.9.9.9": "eight", "10.0.0.8": "net", "10.0.0.7": "host",
		"192.0.2.1": "twice", "192.0.2.0": "twice",
		"2001:db8::1": "net", "2001:db8::2": "eight", "2001:db9::": "",
	} {
		s.finds(ruleFind, "a", addr, name)
	}
}

func findAfterChanges(s *subject) {
	head := s.commit(newHead("a"), create(holding("a", "x", "10.0.0.1/32 10.0.0.2/32")))
	s.finds(ruleFresh, "a", "10.0.0.2", "x")
	head = s.commit(head, put(holding("a", "x", "10.0.0.2/32 10.0.0.3/32")))
	s.finds(ruleFresh, "a", "10.0.0.1", "")
	s.finds(ruleFresh, "a", "10.0.0.2", "x")
	s.finds(ruleFresh, "a", "10.0.0.3", "x")
	head = s.commit(head, create(holding("a", "y", "10.0.0.1/32")), put(holding("a", "x", "10.0.0.2/32")))
	s.finds(ruleFresh, "a", "10.0.0.1", "y")
	s.finds(ruleFresh, "a", "10.0.0.3", "")
	head = s.commit(head, remove(claimKey("a", "x")), put(holding("a", "y", "10.0.0.2/32")))
	s.finds(ruleFresh, "a", "10.0.0.2", "y")
	s.finds(ruleFresh, "a", "10.0.0.1", "")
	if !s.backend.NoOverlap {
		head = s.commit(head, create(holding("a", "z", "10.0.0.2/32")))
	}
	head = s.commit(head, remove(claimKey("a", "y")), put(holding("a", "z", "10.0.0.2/32")))
	s.finds(ruleFresh, "a", "10.0.0.2", "z")
	s.refused(ruleExists, store.ErrExists, head, create(holding("a", "w", "10.0.0.9/32")),
		create(holding("a", "z", "10.0.0.8/32")))
	s.finds(ruleFailed, "a", "10.0.0.9", "")
	s.finds(ruleFailed, "a", "10.0.0.8", "")
	s.reopen()
	s.finds(ruleFresh, "a", "10.0.0.2", "z")
	s.commit(head, remove(claimKey("a", "z")))
	s.finds(ruleFresh, "a", "10.0.0.2", "")
}

// findOverlapRefused has commits give addresses twice, and then change hands within one commit, which is no overlap.
func findOverlapRefused(s *subject) {
	if !s.backend.NoOverlap {
		return
	}
	cooling := holding("a", "10.0.2.0/24", "10.0.2.0/24")
	cooling.Kind = store.KindCooling
	x, y := holding("a", "x", "10.0.0.0/24 10.0.0.0/8 10.0.0.0/24"), holding("a", "y", "2001:db8::/64")
	head := s.commit(newHead("a"), create(x), create(y), create(holding("b", "x", "10.0.0.0/8")))
	verify := s.unchanged(headKey("a"), x.Key, y.Key, claimKey("a", "z"), cooling.Key)
	for _, w := range []store.Write{
		create(holding("a", "z", "10.0.0.0/24")), create(holding("a", "z", "10.0.0.7/32")),
		put(holding("a", "z", "0.0.0.0/0")), put(holding("a", "y", "10.9.0.0/16")),
		create(holding("a", "z", "192.0.2.1/32 2001:db8::1/128")), create(cooling),
	} {
		_, err := CommitOne(s.ctx, s.s, head, w)
		s.check(err != nil, ruleRefused, "a commit after which %v and others hold the same addresses succeeded", w.Record.Key)
		for _, other := range []error{
			store.ErrUnknown, store.ErrConflict, store.ErrExists, store.ErrInvalid, store.ErrTooLarge, store.ErrClosed,
		} {
			s.check(!errors.Is(err, other), ruleRefused,
				"a commit whose addresses overlap returned the error %q, which is %q", err, other)
		}
		verify(ruleFailed)
	}
	head = s.commit(head, put(holding("a", "x", "2001:db8::/64")), put(holding("a", "y", "10.0.0.0/8")))
	head = s.commit(head, create(cooling), remove(y.Key))
	s.commit(head, create(holding("a", "z", "10.0.2.7/32")), remove(cooling.Key))
	s.finds(ruleFresh, "a", "10.0.2.7", "z")
}

func findApart(s *subject) {
	space := holding("a", "space", "10.0.0.1/32")
	space.Kind = store.KindSpace
	head := holding("a", "", "10.0.0.0/8")
	head.Kind = store.KindPool
	s.commit(head, create(space), create(holding("b", "x", "10.0.0.2/32")), create(holding("a/b", "x", "10.0.0.3/32")))
	for _, addr := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"} {
		s.finds(ruleFind, "a", addr, "")
	}
	s.finds(ruleFind, "b", "10.0.0.2", "x")
	s.finds(ruleFind, "a/b", "10.0.0.3", "x")
}

func findNoPrefix(s *subject) {
	s.commit(newHead("a"), create(holding("a", "x", "0.0.0.0/0 ::/0")))
	s.finds(ruleFindZero, "a", "10.0.0.1", "x")
	for _, addr := range []netip.Addr{{}, netip.MustParseAddr("::ffff:10.0.0.1")} {
		got, err := s.s.Find(s.ctx, "a", addr)
		s.check(errors.Is(err, store.ErrNotFound), ruleFindZero, "Find of %v found %v, %v", addr, got.Key, err)
	}
}

func findInvalid(s *subject) {
	for _, pool := range []string{"", "a\x00", "\xff", strings.Repeat("p", store.MaxNameBytes+1)} {
		_, err := s.s.Find(s.ctx, pool, netip.MustParseAddr("10.0.0.1"))
		s.check(errors.Is(err, store.ErrInvalid), ruleInvalidKey, "Find in pool %.40q returned the error %v", pool, err)
	}
}
