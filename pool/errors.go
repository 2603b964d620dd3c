package pool

import (
	"errors"
	"fmt"
	"net/netip"
)

// Errors of this package, for use with [errors.Is]. The errors that its functions return are of type [*Error] and wrap one of
// these, or an error of the store as it came: [store.ErrUnknown] above all, which alone leaves open whether the call
// took effect.
var (
	// ErrInvalid says that an argument breaks a rule: a specification, a name, a claim.
	ErrInvalid = errors.New("invalid")
	// ErrExists says that there is a pool of that name already.
	ErrExists = errors.New("pool already exists")
	// ErrNotFound says that the owner or the address holds nothing, or that there is no such pool.
	ErrNotFound = errors.New("not found")
	// ErrNoPool is the ErrNotFound that says that there is no such pool, or no longer. It wraps ErrNotFound.
	ErrNoPool = fmt.Errorf("pool %w", ErrNotFound)
	// ErrInUse says that a pool cannot be deleted because addresses of it are held.
	ErrInUse = errors.New("in use")
	// ErrExhausted says that nothing free is left of what was asked for.
	ErrExhausted = errors.New("exhausted")
	// ErrTaken says that the exact prefix asked for is held, wholly or in part.
	ErrTaken = errors.New("taken")
	// ErrNotInPool says that the exact prefix asked for is none that the pool hands out. The message says why:
	// outside of the ranges, excluded, a gateway, or reserved.
	ErrNotInPool = errors.New("not in the pool")
	// ErrFamily says that the pool does not have the family asked for.
	ErrFamily = errors.New("family not in the pool")
	// ErrHeld says that the owner holds something already that is not what the claim asks for. Release it first.
	ErrHeld = errors.New("owner holds something else")
	// ErrGeneration says that what the owner holds is of another generation than the one to release.
	ErrGeneration = errors.New("other generation")
	// ErrBusy says that other processes changed the pool each time before this one could, as often as
	// [Options.Attempts] allows. Nothing was changed.
	ErrBusy = errors.New("too many conflicts")
	// ErrCorrupt says that what the store holds for the pool cannot be read. See [Pool.Repair].
	ErrCorrupt = errors.New("corrupt")
)

// Error says what failed, where, for whom, and why. Fields that do not apply are zero.
type Error struct {
	Op     string       // such as "allocate"
	Pool   string       // the pool's name; empty for one without a store
	Owner  string       // the owner who asked
	Prefix netip.Prefix // the prefix that it is about
	Err    error        // the cause
}

// Error returns, for example: pool "blue": allocate for "pod-7": 10.0.0.9/32: taken.
func (e *Error) Error() string {
	text := e.Op
	if e.Pool != "" {
		text = fmt.Sprintf("pool %q: %s", e.Pool, e.Op)
	}
	if e.Owner != "" {
		text += fmt.Sprintf(" for %q", e.Owner)
	}
	if e.Prefix.IsValid() {
		text += fmt.Sprintf(": %v", e.Prefix)
	}
	return fmt.Sprintf("%s: %v", text, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// invalid is an error that wraps [ErrInvalid] and says what is wrong.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}
