package pool

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/internal/sentinel"
	"github.com/ipalloc/ipalloc/store"
)

// Errors of this package, for use with [errors.Is]. The errors that its functions return are of type [*Error]. They
// wrap one of these, or an error of the store as it came. Of the latter, [store.ErrUnknown] alone leaves open whether
// the call took effect.
//
// ErrInvalid, ErrNotFound, ErrExhausted, ErrTaken and ErrNewerFormat are the errors of these names in packages store
// and allocator, so it does not matter with which one an error is compared. Errors of package cidr match ErrInvalid
// too.
var (
	// ErrInvalid is returned when an argument breaks a rule: a specification, a name, a claim.
	ErrInvalid = sentinel.ErrInvalid
	// ErrDrift is returned by [Ensure] with [Refuse] if the pool has another spec.
	ErrDrift = errors.New("the pool has another spec")
	// ErrExists is returned when there is already a pool of that name. It wraps [store.ErrExists].
	ErrExists = fmt.Errorf("pool %w", store.ErrExists)
	// ErrNotFound is returned when the owner or the address holds nothing, or when there is no such pool.
	ErrNotFound = sentinel.ErrNotFound
	// ErrNoPool is returned when there is no such pool, or no longer. It wraps ErrNotFound.
	ErrNoPool = fmt.Errorf("pool %w", ErrNotFound)
	// ErrUnfinished is returned for a pool whose [Import] has not come to its end. Import it again, or [Delete] it.
	ErrUnfinished = errors.New("import of the pool is unfinished")
	// ErrOrphaned is returned when a pool cannot be made because records of an earlier one of that name are there, which
	// hold addresses, without a head: somebody has deleted the pool by hand. [Recover] makes the pool anew and takes them
	// up.
	ErrOrphaned = errors.New("records of a pool whose head is gone (pool.Recover takes them up)")
	// ErrInUse is returned when a pool cannot be deleted because addresses of it are held; when a block cannot be
	// released or retracted because the pool that was delegated from it still holds some of its addresses; and when a
	// pool from which others were delegated cannot change its network.
	ErrInUse = errors.New("in use")
	// ErrExhausted is returned when the searched part of the pool has no free prefix of the requested length. The error
	// is an [ExhaustedError].
	ErrExhausted = sentinel.ErrExhausted
	// ErrTaken is returned when the requested exact prefix is held, or cools down, wholly or in part. The error is a
	// [TakenError].
	ErrTaken = sentinel.ErrTaken
	// ErrNotInPool is returned when the pool does not hand out the requested exact prefix. The message says why: it is
	// outside of the ranges, excluded, a gateway, reserved or withheld.
	ErrNotInPool = errors.New("not in the pool")
	// ErrFamily is returned when the pool does not have the requested family.
	ErrFamily = errors.New("family not in the pool")
	// ErrHeld is returned when the owner already holds something that is not what the claim asks for. Release it first.
	ErrHeld = errors.New("owner holds something else")
	// ErrScope is returned when the pool, or what the owner holds, is for another scope than the claim's.
	ErrScope = errors.New("other scope")
	// ErrOutOfRange is returned when a change of the pool would leave allocations out of range. The error is a
	// [OutOfRangeError].
	ErrOutOfRange = errors.New("allocations would be out of range")
	// ErrOverlap is returned when ranges overlap with those of another pool of the network, or with what such a pool
	// still holds out of range.
	ErrOverlap = errors.New("overlaps in the network")
	// ErrGeneration is returned when what the owner holds is of another generation than the one to release.
	ErrGeneration = errors.New("other generation")
	// ErrBusy is returned when other processes changed the pool each time before this one could, as often as
	// [Options.Attempts] allows. Nothing was changed. It is rare, since handles that lose take turns.
	ErrBusy = errors.New("too many conflicts")
	// ErrCorrupt is returned when what the store has for the pool cannot be read. See [Pool.Repair].
	ErrCorrupt = errors.New("corrupt")
	// ErrNewerFormat is returned when a newer release of this library has written the pool, the network or the snapshot,
	// in a format that this one does not know. The message names the version found and the newest one known. Nothing was
	// changed. The pool is whole: do not repair it, upgrade the program.
	ErrNewerFormat = sentinel.ErrNewerFormat
)

// Error says what failed, where, for which owner, and why. Fields that do not apply are zero. It is the caller's.
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
		text = fmt.Sprintf("pool %q: %s", brief(e.Pool), e.Op)
	}
	if e.Owner != "" {
		text += fmt.Sprintf(" for %q", brief(e.Owner))
	}
	if e.Prefix.IsValid() {
		text += fmt.Sprintf(": %v", e.Prefix)
	}
	return fmt.Sprintf("%s: %v", text, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// wrapped returns err as an [*Error]: itself if it is one, else as. It returns nil for nil.
func wrapped(err error, as Error) error {
	var inner *Error
	if err == nil || errors.As(err, &inner) && inner.Op != "" {
		return err
	}
	as.Err = storeError(err)
	return &as
}

// ExhaustedError says what could not be found free. It matches [ErrExhausted]. It is the caller's.
type ExhaustedError struct {
	// Family and Bits are those of the request that could not be met.
	Family Family
	Bits   int
	// Limited reports whether the request was for a part of the pool only: it named a set, or the pool has bands.
	Limited bool
	// Never reports whether the request could not be met even if nothing were held: no prefix of the length lies in what
	// the pool hands out, or in the part of it that was asked for. Only another spec helps. Otherwise the pool is full
	// for now.
	Never bool
	// Longest is the longest free block of the family in the whole pool, as a prefix length in bits; -1 if no address is
	// free. A request for that length, or for a greater one, can be met if it is for no part of the pool.
	Longest int
	// Free, Cooling and Total count the addresses of the family in the pool. Addresses may be free although none of them
	// fits the request.
	Free, Cooling, Total cidr.Count
	// Next is when the first lease or cooldown in the pool ends, if nothing happens before; zero if nothing in the pool
	// ends.
	Next time.Time

	hint string
}

// Error says what was asked for, what there is, and when the next address may become free.
func (e *ExhaustedError) Error() string {
	text := fmt.Sprintf("%v: no %v /%d is free", ErrExhausted, e.Family, e.Bits)
	if e.Never {
		text = fmt.Sprintf("%v: an %v /%d can never be free", ErrExhausted, e.Family, e.Bits)
	}
	if e.Limited {
		text += " in the part of the pool that was asked for"
	}
	text += fmt.Sprintf("; free addresses: %v of %v", e.Free, e.Total)
	if e.Longest >= 0 && e.Longest > e.Bits {
		text += fmt.Sprintf(", the longest free block is a /%d", e.Longest)
	}
	if !e.Cooling.IsZero() {
		text += fmt.Sprintf("; %v cool down", e.Cooling)
	}
	if !e.Next.IsZero() {
		text += "; the next one may be free at " + e.Next.Format(time.RFC3339Nano)
	}
	return text + e.hint
}

// Is makes errors.Is(e, ErrExhausted) true.
func (e *ExhaustedError) Is(target error) bool { return target == ErrExhausted }

// OutOfRangeError lists the allocations that a change of the pool would leave out of range (stranded). It matches
// [ErrOutOfRange]. It is the caller's.
type OutOfRangeError struct {
	// Allocations are all that would be out of range, at least in part.
	Allocations []Allocation
}

// Error names the first of them.
func (e *OutOfRangeError) Error() string {
	const few = 3
	text := fmt.Sprintf("%v: %d", ErrOutOfRange, len(e.Allocations))
	separator := ": "
	for _, a := range e.Allocations[:min(few, len(e.Allocations))] {
		text += fmt.Sprintf("%s%q holds %v", separator, brief(a.Owner), brief(a.Prefixes))
		separator = ", "
	}
	if len(e.Allocations) > few {
		text += ", …"
	}
	return text
}

// Is makes errors.Is(e, ErrOutOfRange) true.
func (e *OutOfRangeError) Is(target error) bool { return target == ErrOutOfRange }

// TakenError says why an exact prefix could not be had. It matches [ErrTaken]. It is the caller's.
type TakenError struct {
	// Prefix is what was asked for.
	Prefix netip.Prefix
	// Cooling is when the cooldown or quarantine ends that withholds the first address of the prefix; zero if an owner
	// holds it.
	Cooling time.Time
	// Next is when the first lease or cooldown in the pool ends, if nothing happens before; zero if nothing in the pool
	// ends, or if that was not looked up.
	Next time.Time
}

// Error says whether the prefix cools down, and until when. The [*Error] around it names the prefix.
func (e *TakenError) Error() string {
	text := ErrTaken.Error()
	if !e.Cooling.IsZero() {
		text += ": it cools down until " + e.Cooling.Format(time.RFC3339Nano)
	}
	return text
}

// Is makes errors.Is(e, ErrTaken) true.
func (e *TakenError) Is(target error) bool { return target == ErrTaken }

// invalid is an error that wraps [ErrInvalid] and says what is wrong. What it quotes is cut.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalid, errorf(format, args...))
}
