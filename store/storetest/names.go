package storetest

import (
	"fmt"
	"strings"

	"github.com/ipalloc/ipalloc/store"
)

func nameCases() []testCase {
	return []testCase{
		{"names/odd names", func(s *subject) {
			s.keepApart(ruleKeys, keysWith(func(text string) store.Key { return claimKey("a", text) }))
		}},
		{"names/odd pools", func(s *subject) { s.keepApart(ruleKeys, keysWith(headKey)) }},
		{"names/odd kinds", func(s *subject) {
			s.keepApart(ruleKind,
				keysWith(func(text string) store.Key { return store.Key{Kind: store.Kind(text), Pool: "a", Name: "x"} }))
		}},
		{"names/alike", namesAlike},
	}
}

// oddTexts are texts that go wrong where a key is put together, quoted, escaped, sorted or compared carelessly.
func oddTexts() []string {
	return []string{
		"/", "//", "a/b", "a/", "/a", "../a", ".", "..", "a.b", "-", "--", "_", "%", "%2F", "%00", "a%b", "*", "?", "[a]",
		"'", "''", `"`, "`", `\`, `\\`, `\0`, `\x00`, "a\nb", "\n", "\t", "\r\n", " ", "  ", "a ", " a",
		"\x01", "\x7f", "\x1f",
		"a", "A", "aa", "a\x01", "a0", "~", "\u007f\u0080", "é", "e\u0301", "ß", "SS", "日本語", "😀",
		"\u202e", "\ufeff", "\uffff", "\U0010ffff",
		"null", "0", "00", "1", "-1", "true", "{}", "a=b&c", "a,b", "a;b", "a:b", "a|b", "#",
		"$1", "${x}", "{{x}}", "select 1; --",
		strings.Repeat("n", store.MaxNameBytes), strings.Repeat("n", store.MaxNameBytes-1),
		strings.Repeat("é", store.MaxNameBytes/2), strings.Repeat("/", store.MaxNameBytes),
		strings.Repeat("n", 63), strings.Repeat("n", 64), strings.Repeat("n", 253),
		strings.Repeat("n", 254), strings.Repeat("n", 256),
	}
}

func keysWith(keyOf func(text string) store.Key) []store.Key {
	var keys []store.Key
	seen := map[store.Key]bool{}
	for _, text := range oddTexts() {
		if key := keyOf(text); !seen[key] {
			seen[key] = true
			keys = append(keys, key)
		}
	}
	return keys
}

// namesAlike stores keys that a driver may take for one another.
func namesAlike(s *subject) {
	var keys []store.Key
	for _, kind := range []store.Kind{"a", "aa", "a/a", "b"} {
		for _, pool := range []string{"a", "aa", "a/a", "b", "a/"} {
			for _, name := range []string{"", "a", "aa", "a/a", "b", "/a"} {
				keys = append(keys, store.Key{Kind: kind, Pool: pool, Name: name})
			}
		}
	}
	s.keepApart(ruleKeyEqual, keys)
}

// keepApart stores a record under each key, and checks that each stays what it is while others change.
func (s *subject) keepApart(rule string, keys []store.Key) {
	s.Helper()
	guard := newHead("guard")
	var revisions []int64
	record := func(i int) store.Record { return store.Record{Key: keys[i], State: fmt.Sprint("record ", i)} }
	for i := range keys {
		guard = s.commit(guard, create(record(i)))
		revisions = append(revisions, guard.Revision)
	}
	for i := range keys {
		s.holds(rule, at(record(i), revisions[i]))
	}
	s.listsApart(rule, keys)
	for i, key := range keys {
		if i%2 == 0 {
			guard = s.commit(guard, remove(key))
		}
	}
	for i, key := range keys {
		if i%2 == 0 {
			s.lacks(rule, key)
		} else {
			s.holds(rule, at(record(i), revisions[i]))
		}
	}
}

// listsApart lists each kind and pool of keys, and checks that exactly its own keys come up.
func (s *subject) listsApart(rule string, keys []store.Key) {
	s.Helper()
	type scope struct {
		kind store.Kind
		pool string
	}
	counts := make(map[scope]int)
	for _, key := range append(keys, headKey("guard")) {
		counts[scope{key.Kind, key.Pool}]++
		counts[scope{key.Kind, ""}]++
	}
	for in, want := range counts {
		got := s.list(in.kind, in.pool)
		s.check(len(got) == want, rule, "List of kind %.40q, pool %.40q yields %d records, want %d",
			in.kind, in.pool, len(got), want)
	}
}
