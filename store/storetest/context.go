package storetest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

func contextCases() []testCase {
	return []testCase{
		{"context/ended before", contextEnded},
		{"context/ends in the middle", contextEnds},
	}
}

func contextEnded(s *subject) {
	head := s.commit(newHead("a"), create(claim("a", "x")))
	verify := s.unchanged(headKey("a"), claimKey("a", "x"), claimKey("a", "y"))
	cancelled, cancel := context.WithCancel(s.ctx)
	cancel()
	late, cancelLate := context.WithDeadline(s.ctx, time.Now().Add(-time.Second))
	defer cancelLate()
	for ctx, want := range map[context.Context]error{cancelled: context.Canceled, late: context.DeadlineExceeded} {
		for method, err := range callAll(ctx, s.s, head) {
			s.check(errors.Is(err, want), ruleContext, "%s with an ended context returned the error %v, want one that is %v",
				method, err, want)
		}
	}
	verify(ruleContext)
}

// callAll calls every method but Close and returns their errors by name. The commits create a record y.
func callAll(ctx context.Context, handle store.Store, head store.Record) map[string]error {
	errs := make(map[string]error)
	_, errs["Get"] = handle.Get(ctx, head.Key)
	_, errs["Commit"] = CommitOne(ctx, handle, head, create(claim(head.Pool, "y")), remove(claimKey(head.Pool, "x")))
	_, errs["Find"] = handle.Find(ctx, head.Pool, netip.MustParseAddr("10.0.0.1"))
	_, errs["Turn"] = handle.Turn(ctx, head.Key)
	_, errs["Watch"] = handle.Watch(ctx, head.Key, 0)
	if grouper, ok := handle.(store.Grouper); ok {
		_, errs["Join"] = grouper.Join(ctx, head.Key, []byte("one"))
	}
	if reader, ok := handle.(store.Reader); ok {
		_, errs["GetAll"] = reader.GetAll(ctx, head.Key, claimKey(head.Pool, "x"))
	}
	errs["ByExpiry"] = nil
	for _, err := range handle.ByExpiry(ctx, store.KindAllocation, head.Pool) {
		if errs["ByExpiry"] = err; err != nil {
			break
		}
	}
	errs["ByLabel"] = nil
	l := store.Labelled{Kind: store.KindAllocation, Pool: head.Pool, Name: "node", Value: "n1"}
	for _, err := range store.ByLabel(ctx, handle, l) {
		if errs["ByLabel"] = err; err != nil {
			break
		}
	}
	_, errs["Commit of two heads"] = handle.Commit(ctx, change(head, create(claim(head.Pool, "y"))),
		change(newHead("other")))
	for name, pool := range map[string]string{"List of a pool": head.Pool, "List of all pools": ""} {
		errs[name] = nil
		for _, err := range handle.List(ctx, store.KindAllocation, pool) {
			if errs[name] = err; err != nil {
				break
			}
		}
	}
	return errs
}

// contextEnds gives commits less and less time, and checks that what they say is what happened. It cannot make a
// store lose a commit, but what such a store says of it must be true.
func contextEnds(s *subject) {
	begin := time.Now()
	head := s.commit(newHead("a"))
	usual := time.Since(begin)
	const rounds = 40
	failed := make(map[store.Key]error) // commits that must have changed nothing
	for i := range rounds {
		r := claim("a", fmt.Sprint(i))
		ctx, cancel := context.WithTimeout(s.ctx, usual*time.Duration(rounds-i)/(rounds/2))
		head.State = r.Name
		next, err := CommitOne(ctx, s.s, head, create(r))
		cancel()
		switch {
		case err == nil:
			s.holds(ruleCommit, at(r, next.Revision))
		case errors.Is(err, store.ErrUnknown):
		case errors.Is(err, store.ErrConflict): // with a commit of unknown outcome that came late
		case errors.Is(err, context.DeadlineExceeded):
			failed[r.Key] = err
		default:
			s.broken(ruleContext, "a commit whose context ended returned the error %v", err)
		}
		stored, ok := s.get(headKey("a"))
		s.check(ok, ruleFailed, "the head is gone after a commit with the result %v", err)
		head = stored
	}
	for key, err := range failed {
		got, ok := s.get(key)
		s.check(!ok, ruleUnknown, "a commit that failed with %q took effect: %+v", err, got)
	}
}
