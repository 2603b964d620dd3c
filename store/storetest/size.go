package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/ipalloc/ipalloc/store"
)

func sizeCases() []testCase {
	return []testCase{
		{"size/bytes", sizeBytes},
		{"size/writes", sizeWrites},
	}
}

// sizeBytes doubles the size of the head until it is too large, or as large as the suite goes.
func sizeBytes(s *subject) {
	head := s.commit(newHead("a"))
	for size := 64 << 10; size <= s.backend.MaxCommitBytes; size *= 2 {
		large := head
		large.Data = json.RawMessage(`"` + strings.Repeat("x", size-2) + `"`)
		next, ok := s.commitOrTooLarge(large, create(claim("a", fmt.Sprint(size))))
		if !ok {
			break
		}
		s.holds(ruleData, at(large, next.Revision))
		head = next
	}
	head.Data = nil
	s.commit(head)
}

// sizeWrites doubles the number of writes until they are too many, or as many as the suite goes.
func sizeWrites(s *subject) {
	head := s.commit(newHead("a"))
	total := 0
	for n := 16; n <= s.backend.MaxCommitWrites; n *= 2 {
		writes := make([]store.Write, n)
		for i := range writes {
			writes[i] = create(claim("a", fmt.Sprintf("%d-%d", n, i)))
		}
		next, ok := s.commitOrTooLarge(head, writes...)
		if !ok {
			break
		}
		total += n
		head = next
	}
	got := len(s.list(store.KindAllocation, "a"))
	s.check(got == total, ruleCommit, "%d records are there, want %d", got, total)
	s.commit(head, create(claim("a", "last")))
}

// commitOrTooLarge commits and reports whether that was possible. If not, nothing may have changed.
func (s *subject) commitOrTooLarge(head store.Record, writes ...store.Write) (store.Record, bool) {
	s.Helper()
	keys := []store.Key{head.Key, writes[0].Record.Key, writes[len(writes)-1].Record.Key}
	verify := s.unchanged(keys...)
	next, err := CommitOne(s.ctx, s.s, head, writes...)
	if err == nil {
		return next, true
	}
	var tooLarge *store.TooLargeError
	s.check(errors.As(err, &tooLarge) && errors.Is(err, store.ErrTooLarge), ruleTooLarge,
		"a large commit returned the error %v", err)
	s.check(tooLarge.What != "", ruleTooLarge, "the error %q does not say what is too large", err)
	verify(ruleFailed)
	return head, false
}
