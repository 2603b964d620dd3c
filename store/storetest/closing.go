package storetest

import (
	"errors"
	"fmt"

	"github.com/ipalloc/ipalloc/store"
)

func closingCases() []testCase {
	return []testCase{
		{"close/use afterwards", closeUse},
		{"close/twice", closeTwice},
		{"close/other handles go on", closeOthers},
		{"close/during calls", closeDuring},
	}
}

func closeUse(s *subject) {
	head := s.commit(newHead("a"), create(claim("a", "x")))
	closed := s.s
	s.reopen()
	verify := s.unchanged(headKey("a"), claimKey("a", "x"), claimKey("a", "y"))
	for method, err := range callAll(s.ctx, closed, head) {
		s.check(errors.Is(err, store.ErrClosed), ruleClosed, "%s after Close returned the error %v", method, err)
	}
	verify(ruleClosed)
}

func closeTwice(s *subject) {
	head := s.commit(newHead("a"))
	closed := s.s
	s.reopen()
	for range 3 {
		err := closed.Close()
		s.check(err == nil, ruleClose, "Close of a closed handle returned the error %v", err)
	}
	s.holds(ruleClose, head)
	s.commit(head)
}

func closeOthers(s *subject) {
	if s.backend.OneHandle {
		return
	}
	head := s.commit(newHead("a"))
	other := s.openNew()
	if err := other.Close(); err != nil {
		s.broken(ruleClose, "Close failed: %v", err)
	}
	s.holds(ruleClose, head)
	s.commit(head)
}

// closeDuring closes the store under calls that run: each either does its work or says that the store is closed.
func closeDuring(s *subject) {
	head := s.commit(newHead("a"))
	closed, started, errs := s.s, make(chan struct{}), make(chan error, 1)
	committed := head
	go func() {
		for i := 0; ; i++ {
			next, err := CommitOne(s.ctx, closed, committed, create(claim("a", fmt.Sprint(i))))
			if err != nil {
				errs <- err
				return
			}
			if committed = next; i == 0 {
				close(started)
			}
		}
	}()
	s.within(ruleCommit, func() error {
		select {
		case <-started:
			return nil
		case err := <-errs:
			return err
		}
	})
	s.within(ruleClose, closed.Close)
	s.within(ruleClosed, func() error {
		if err := <-errs; !errors.Is(err, store.ErrClosed) && !errors.Is(err, store.ErrUnknown) {
			return fmt.Errorf("a commit during Close returned the error %w", err)
		}
		return nil
	})
	s.reopen()
	got, _ := s.get(headKey("a"))
	s.check(got.Revision >= committed.Revision, ruleDurable, "the head has revision %d, after a commit of revision %d",
		got.Revision, committed.Revision)
}
