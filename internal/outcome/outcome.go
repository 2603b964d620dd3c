// Package outcome names the ways in which calls and commits of pools end, in few words, for the labels of metrics and
// the attributes of spans.
package outcome

import (
	"context"
	"errors"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// outcome is a kind of error and its name.
type outcome struct {
	is   error
	name string
}

// ofCalls are the ways in which a call ends; the first that matches counts. ErrUnknown is first, since such an error
// may wrap others.
var ofCalls = []outcome{
	{store.ErrUnknown, "unknown"},
	{pool.ErrExhausted, "exhausted"},
	{pool.ErrTaken, "taken"},
	{pool.ErrHeld, "held"},
	{pool.ErrShared, "shared"},
	{pool.ErrNotInPool, "not_in_pool"},
	{pool.ErrBusy, "conflict"},
	{pool.ErrNotFound, "not_found"},
	{pool.ErrInvalid, "invalid"},
	{pool.ErrFamily, "invalid"},
	{pool.ErrScope, "invalid"},
	{pool.ErrCordoned, "cordoned"},
	{pool.ErrQuota, "over_quota"},
	{pool.ErrGeneration, "invalid"},
	{pool.ErrInUse, "invalid"},
	{context.Canceled, "canceled"},
	{context.DeadlineExceeded, "canceled"},
}

var ofCommits = []outcome{
	{store.ErrUnknown, "unknown"},
	{store.ErrConflict, "conflict"},
	{store.ErrTooLarge, "too_large"},
}

// OfCall returns "ok" for nil, and for the error of a call or step the name of its kind, or else "error".
func OfCall(err error) string { return name(err, ofCalls) }

// OfCommit does the same for the error of an attempt to commit.
func OfCommit(err error) string { return name(err, ofCommits) }

func name(err error, outcomes []outcome) string {
	if err == nil {
		return "ok"
	}
	for _, o := range outcomes {
		if errors.Is(err, o.is) {
			return o.name
		}
	}
	return "error"
}
