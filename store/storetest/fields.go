package storetest

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

func fieldCases() []testCase {
	return []testCase{
		{"fields/state", fieldStates},
		{"fields/prefixes", fieldPrefixes},
		{"fields/times", fieldTimes},
		{"fields/data", fieldData},
		{"fields/labels", fieldLabels},
		{"fields/all", fieldAll},
	}
}

// fullRecord returns a record with something in each field.
func fullRecord(key store.Key) store.Record {
	return store.Record{
		Key:   key,
		State: "allocated",
		Prefixes: []netip.Prefix{
			netip.MustParsePrefix("10.1.2.3/32"), netip.MustParsePrefix("2001:db8::/64"), netip.MustParsePrefix("10.1.0.0/24"),
		},
		Labels:  map[string]string{"node": "n1", "k8s.io/pod": "a <b> ü\n"},
		Created: time.Date(2024, 2, 29, 23, 59, 59, 123456789, time.FixedZone("", 5400)),
		Expires: time.Date(2038, 1, 19, 3, 14, 8, 1000, time.UTC),
		Data:    json.RawMessage(`{"b": [1, null, "ü"], "a": {"generation": 9223372036854775807}}`),
	}
}

// apart returns r with prefixes like those of fullRecord, which overlap with those of no other number up to 255.
func apart(r store.Record, i int) store.Record {
	r.Prefixes = nil
	for _, format := range []string{"10.1.%d.3/32", "2001:db8:0:%x::/64", "10.1.%d.0/24"} {
		r.Prefixes = append(r.Prefixes, netip.MustParsePrefix(fmt.Sprintf(format, i)))
	}
	return r
}

// roundTrip stores each record, as head and beside one, and checks all ways in which it comes back.
func (s *subject) roundTrip(rule string, records []store.Record) {
	s.Helper()
	guard := s.commit(newHead("guard"))
	for i, r := range records {
		r.Key = claimKey(fmt.Sprint("pool-", i), "x")
		guard = s.commit(guard, create(r))
		s.holds(rule, at(r, guard.Revision))
		s.existsWith(s.refused(ruleExists, store.ErrExists, guard, create(r)), []store.Record{at(r, guard.Revision)})
		s.same(rule, "the record that List yields", s.list(store.KindAllocation, r.Pool)[r.Key], at(r, guard.Revision))
		r.Key = headKey(fmt.Sprint("head-", i))
		head := s.commit(r)
		s.holds(rule, head)
		s.conflicts(at(r, 0), head)
	}
}

func fieldStates(s *subject) {
	var records []store.Record
	for _, state := range append(oddTexts(), "", "allocated") {
		records = append(records, store.Record{State: state})
	}
	s.roundTrip(ruleCommit, records)
}

func fieldPrefixes(s *subject) {
	var records []store.Record
	for _, text := range []string{
		"", "10.0.0.1/32", "0.0.0.0/0", "::/0", "255.255.255.255/32", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",
		"10.0.0.2/32 10.0.0.1/32 10.0.0.3/32", "2001:db8::/48 10.0.0.0/8 2001:db8::1/128 192.0.2.0/24",
		"fe80::/10", "::/127", "10.0.0.1/32 10.0.0.1/32",
	} {
		var prefixes []netip.Prefix
		for _, p := range strings.Fields(text) {
			prefixes = append(prefixes, netip.MustParsePrefix(p))
		}
		records = append(records, store.Record{Prefixes: prefixes})
	}
	s.roundTrip(rulePrefixes, records)
}

func fieldTimes(s *subject) {
	zone := time.FixedZone("somewhere", -11*3600-1800)
	var records []store.Record
	for _, t := range []time.Time{
		{},
		time.Time{}.In(zone),
		time.Unix(0, 0),
		time.Unix(0, -1),
		time.Date(1969, 12, 31, 23, 59, 59, 999999999, time.UTC),
		time.Date(2024, 2, 29, 12, 0, 0, 999999999, zone),
		time.Date(2024, 7, 1, 12, 0, 0, 1500, time.UTC),
		time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC),
		time.Date(1, 1, 1, 0, 0, 0, 999, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC),
		time.Now(),
	} {
		records = append(records, store.Record{Created: t}, store.Record{Expires: t}, store.Record{Created: t, Expires: t})
	}
	s.roundTrip(ruleTimes, records)
}

func fieldData(s *subject) {
	var records []store.Record
	for _, text := range []string{
		``, `null`, `true`, `0`, `""`, `[]`, `{}`, `{"":{}}`, ` { "a" : [ 1 , 2 ] } `, "\n[\t1\r\n]\n",
		`9223372036854775807`, `-9223372036854775808`, `18446744073709551616`, `340282366920938463463374607431768211455`,
		`0.1`, `3.141592653589793238462643383279`, `1e3`, `-0.5e-7`, `12345678901234567890.123456789`,
		`"<script>&amp;</script>"`, `"tab\t quote\" slash\/ back\\ line\n"`, `"\u00e9 é \ud83d\ude00 😀 \u2028"`,
		`{"data":"bm90IGEgc3RyaW5n","nested":[[[[{"x":[null,false,{"y":"z"}]}]]]]}`,
		`{"b":1,"a":2,"B":3,"A":4," ":5,"ключ":6}`, `"` + strings.Repeat("long ", 4000) + `"`,
	} {
		records = append(records, store.Record{Data: json.RawMessage(text)})
	}
	s.roundTrip(ruleData, records)
}

func fieldLabels(s *subject) {
	records := []store.Record{{Labels: map[string]string{}}, {Labels: map[string]string{"empty": "", "other": "x"}}}
	for _, text := range oddTexts() {
		records = append(records, store.Record{Labels: map[string]string{text: text, "label": text}})
	}
	s.roundTrip(ruleLabels, records)
}

func fieldAll(s *subject) {
	s.roundTrip(ruleCommit, []store.Record{fullRecord(store.Key{})})
}
