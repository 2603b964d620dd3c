package storetest

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

func invalidCases() []testCase {
	return []testCase{
		{"invalid/records", invalidRecords},
		{"invalid/keys", invalidWriteKeys},
		{"invalid/operations", invalidOperations},
		{"invalid/one key twice", invalidTwice},
		{"invalid/revision", invalidRevision},
	}
}

// rejects commits, with writes that are valid, one that is not, and expects nothing of it to show.
func (s *subject) rejects(head store.Record, writes ...store.Write) {
	s.Helper()
	keys := []store.Key{headKey("a"), claimKey("a", "standing"), claimKey("a", "new"), claimKey("a", "x")}
	verify := s.unchanged(keys...)
	all := append([]store.Write{create(claim("a", "new")), remove(claimKey("a", "standing"))}, writes...)
	s.refused(ruleValid, store.ErrInvalid, head, all...)
	verify(ruleValid)
}

// prepared returns a head with a record beside it.
func (s *subject) prepared() store.Record {
	s.Helper()
	return s.commit(newHead("a"), create(claim("a", "standing")))
}

func invalidRecords(s *subject) {
	head := s.prepared()
	for _, spoil := range []func(*store.Record){
		func(r *store.Record) { r.State = "\xff" },
		func(r *store.Record) { r.State = "a\x00b" },
		func(r *store.Record) { r.State = strings.Repeat("s", store.MaxNameBytes+1) },
		func(r *store.Record) { r.Prefixes = []netip.Prefix{{}} },
		func(r *store.Record) {
			r.Prefixes = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.0.0.1/8")}
		},
		func(r *store.Record) { r.Prefixes = []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.1/128")} },
		func(r *store.Record) { r.Created = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		func(r *store.Record) { r.Expires = time.Date(0, 12, 31, 0, 0, 0, 0, time.UTC) },
		func(r *store.Record) { r.Labels = map[string]string{"": "v"} },
		func(r *store.Record) { r.Labels = map[string]string{"n": "\x00"} },
		func(r *store.Record) { r.Labels = map[string]string{"\xff": "v"} },
		func(r *store.Record) { r.Labels = map[string]string{"n": strings.Repeat("v", store.MaxLabelBytes)} },
		func(r *store.Record) {
			r.Labels = map[string]string{}
			for i := range store.MaxLabels + 1 {
				r.Labels[fmt.Sprint(i)] = ""
			}
		},
		func(r *store.Record) { r.Data = json.RawMessage(`{`) },
		func(r *store.Record) { r.Data = json.RawMessage(` `) },
		func(r *store.Record) { r.Data = json.RawMessage(`1 2`) },
		func(r *store.Record) { r.Data = json.RawMessage("\"\xff\"") },
	} {
		spoilt, spoiltHead := claim("a", "x"), head
		spoil(&spoilt)
		spoil(&spoiltHead)
		s.rejects(head, create(spoilt))
		s.rejects(head, put(spoilt))
		s.rejects(spoiltHead)
	}
}

func invalidWriteKeys(s *subject) {
	head := s.prepared()
	for _, key := range invalidKeys() {
		s.rejects(store.Record{Key: key})
		for _, op := range []store.Op{store.Create, store.Put, store.Delete} {
			s.rejects(head, store.Write{Op: op, Record: store.Record{Key: key}})
		}
	}
}

func invalidOperations(s *subject) {
	head := s.prepared()
	s.rejects(head, store.Write{Record: claim("a", "x")})
	s.rejects(head, store.Write{Op: store.Delete + 1, Record: claim("a", "x")})
}

func invalidTwice(s *subject) {
	head := s.prepared()
	ops := []store.Op{store.Create, store.Put, store.Delete}
	for _, first := range ops {
		for _, second := range ops {
			s.rejects(head, store.Write{Op: first, Record: claim("a", "x")}, store.Write{Op: second, Record: claim("a", "x")})
		}
		if first != store.Delete {
			s.rejects(head, store.Write{Op: first, Record: newHead("a")})
		}
	}
	s.rejects(head, remove(headKey("a")), remove(headKey("a")))
	many := make([]store.Write, 0, 32)
	for name := 'b'; name < 'z'; name++ {
		many = append(many, create(claim("a", string(name))))
	}
	s.rejects(head, append(many, create(claim("a", "c")))...)
}

func invalidRevision(s *subject) {
	s.rejects(at(s.prepared(), -1))
	s.rejects(at(newHead("b"), -1))
}
