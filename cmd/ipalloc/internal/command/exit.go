package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// The exit codes, which the help of the program explains.
const (
	codeDone = iota
	codeFailed
	codeUsage
	codeNotFound
	codeRefused
	codeWrong
	codeNeedsYes
	codeUnknown
	codeClashes
)

var (
	// errUsage is a flag or an argument that breaks a rule.
	errUsage = errors.New("usage")
	// errWrong is what a check has found.
	errWrong = errors.New("something is wrong")
	// errNeedsYes is a command that takes something away and was not told to.
	errNeedsYes = errors.New("nothing was changed; to do this, add --yes")
)

// refusals are the errors with which a pool refuses a change.
var refusals = []error{
	pool.ErrExists, pool.ErrInUse, pool.ErrExhausted, pool.ErrTaken, pool.ErrNotInPool, pool.ErrFamily, pool.ErrHeld,
	pool.ErrShared, pool.ErrScope, pool.ErrQuota, pool.ErrCordoned, pool.ErrOutOfRange, pool.ErrOverlap,
	pool.ErrGeneration, pool.ErrOrphaned, pool.ErrUnfinished,
}

// usageError is an error of the command line. Its text does not say so.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }
func (e *usageError) Unwrap() error { return errUsage }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// codeOf returns the exit code for an error.
func codeOf(err error) int {
	is := func(targets ...error) bool {
		for _, target := range targets {
			if errors.Is(err, target) {
				return true
			}
		}
		return false
	}
	switch {
	case err == nil:
		return codeDone
	case is(store.ErrUnknown):
		return codeUnknown
	case is(errNeedsYes):
		return codeNeedsYes
	case is(errClashes):
		return codeClashes
	case is(errWrong, pool.ErrCorrupt, store.ErrDamaged):
		return codeWrong
	case is(context.Canceled, context.DeadlineExceeded):
		return codeFailed
	case is(errUsage, pool.ErrInvalid):
		return codeUsage
	case is(refusals...):
		return codeRefused
	case is(pool.ErrNotFound):
		return codeNotFound
	}
	return codeFailed
}
