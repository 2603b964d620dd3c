package plugin

import (
	"context"
	"errors"
	"io/fs"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// The plugin's own error codes. CNI leaves those from 100 on to plugins.
const (
	// CodeTaken is that of an address that the container asks for, and that another one has.
	CodeTaken uint = 100
	// CodeHeld is that of an ADD for an attachment that holds something else: DEL comes first.
	CodeHeld uint = 101
	// CodeChanged is that of a CHECK that finds something else than ADD has returned.
	CodeChanged uint = 102
	// CodeUnavailable is CNI's code of a STATUS that finds that ADD would fail.
	CodeUnavailable uint = 50
)

// cniError is the error as CNI has it: with the code that tells the runtime what to do.
func cniError(err error) error {
	var already *types.Error
	if err == nil || errors.As(err, &already) {
		return err
	}
	code, message := describe(err)
	return types.NewError(code, message, err.Error())
}

func describe(err error) (uint, string) {
	failed := &pool.Error{}
	errors.As(err, &failed)
	switch {
	case failed.Never:
		return types.ErrInvalidNetworkConfig, "the ranges have no address that could be handed out"
	case errors.Is(err, pool.ErrExhausted):
		return types.ErrTryAgainLater, "all addresses are in use"
	case !failed.Until.IsZero():
		return types.ErrTryAgainLater, "an address that is asked for is withheld"
	case errors.Is(err, pool.ErrTaken):
		return CodeTaken, "an address that is asked for is in use"
	case errors.Is(err, pool.ErrHeld):
		return CodeHeld, "the attachment has other addresses: DEL comes first"
	case errors.Is(err, pool.ErrOverlap):
		return types.ErrInvalidNetworkConfig, "ranges overlap with others of the same network_name"
	case errors.Is(err, pool.ErrNotInPool), errors.Is(err, pool.ErrInvalid), errors.Is(err, pool.ErrFamily):
		return types.ErrInvalidNetworkConfig, "invalid network configuration"
	case errors.Is(err, pool.ErrBusy), errors.Is(err, store.ErrUnknown), errors.Is(err, context.DeadlineExceeded):
		return types.ErrTryAgainLater, "the store of the addresses does not answer in time"
	}
	return types.ErrIOFailure, "the store of the addresses fails"
}

// nothingHeld reports whether the error says that there is no store or no pool, so that nothing can be held.
func nothingHeld(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, pool.ErrNoPool)
}
