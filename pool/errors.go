package pool

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/internal/sentinel"
	"github.com/ipalloc/ipalloc/pool/internal/space"
	"github.com/ipalloc/ipalloc/store"
)

// Errors of this package, for use with [errors.Is]. The functions of this package return errors of type [*Error]. They
// wrap one of these, or an unchanged error of the store. Only [store.ErrUnknown] leaves open whether the call took
// effect.
//
// ErrInvalid, ErrNotFound, ErrExhausted, ErrTaken and ErrNewerFormat are the errors of the same names in packages store
// and allocator, so an error may be compared with either. Errors of package cidr match ErrInvalid too.
var (
	// ErrInvalid is returned when an argument breaks a rule: a specification, a name, a claim.
	ErrInvalid = sentinel.ErrInvalid
	// ErrDrift is returned by [Ensure] with [Refuse] if the pool has another spec.
	ErrDrift = errors.New("the pool has another spec")
	// ErrExists is returned when a pool of that name already exists. It wraps [store.ErrExists].
	ErrExists = fmt.Errorf("pool %w", store.ErrExists)
	// ErrNotFound is returned when the owner holds nothing, when nobody holds the address, or when the pool does not
	// exist.
	ErrNotFound = sentinel.ErrNotFound
	// ErrNoPool is returned when the pool does not exist, or no longer exists. It wraps ErrNotFound.
	ErrNoPool = fmt.Errorf("pool %w", ErrNotFound)
	// ErrUnfinished is returned for a pool whose [Import] did not finish. Import it again, or [Delete] it.
	ErrUnfinished = errors.New("import of the pool is unfinished")
	// ErrOrphaned is returned when a pool cannot be created because the store still has allocation records of an
	// earlier pool of that name, but not its head: somebody has deleted that pool by hand. [Recover] creates the pool
	// again, with these allocations.
	ErrOrphaned = errors.New("records of a pool whose head is gone (pool.Recover takes them up)")
	// ErrInUse is returned when a pool cannot be deleted because some of its addresses are held, when a block cannot be
	// released or retracted because the pool that was delegated from it still holds some of its addresses, and when a
	// pool cannot change its network because other pools were delegated from it.
	ErrInUse = errors.New("in use")
	// ErrExhausted is returned when the searched part of the pool has no free prefix of the requested length. The
	// [Error] says more.
	ErrExhausted = sentinel.ErrExhausted
	// ErrTaken is returned when any part of the requested exact prefix is held or cooling down. The [Error] says until
	// when it cools down.
	ErrTaken = sentinel.ErrTaken
	// ErrNotInPool is returned when the pool does not hand out the requested exact prefix. The message says why: it is
	// outside the ranges, excluded, a gateway, reserved or withheld.
	ErrNotInPool = errors.New("not in the pool")
	// ErrFamily is returned when the pool does not have the requested family.
	ErrFamily = errors.New("family not in the pool")
	// ErrHeld is returned when the owner already holds something other than what the claim asks for. Release that
	// first.
	ErrHeld = errors.New("owner holds something else")
	// ErrShared is returned when the claim's share key has something else than the claim asks for, or as many owners as it
	// can have; and when only an address says what is held, and several owners share it. See [Claim.Share].
	ErrShared = errors.New("shared")
	// ErrScope is returned when the pool, or what the owner already holds, has a scope other than the claim's.
	ErrScope = errors.New("other scope")
	// ErrQuota is returned when a claim would exceed a quota; see [Spec.Quotas]. The [Error] has the figures.
	ErrQuota = errors.New("over quota")
	// ErrCordoned is returned when the pool is closed for new claims; see [Spec.Cordoned].
	ErrCordoned = errors.New("the pool is cordoned")
	// ErrOutOfRange is returned when a change of the pool would leave allocations out of range (stranded). The [Error]
	// lists them.
	ErrOutOfRange = errors.New("allocations would be out of range")
	// ErrOverlap is returned when ranges overlap with those of another pool in the network, or with addresses that such
	// a pool still holds out of range.
	ErrOverlap = errors.New("overlaps in the network")
	// ErrGeneration is returned when what the owner holds has a generation other than [Held.Generation].
	ErrGeneration = errors.New("other generation")
	// ErrBusy is returned when other processes changed the pool first in all of the [Options.Attempts] of a call. The
	// call changed nothing. It is rare, because handles that lose take turns.
	ErrBusy = errors.New("too many conflicts")
	// ErrTurn is returned, together with the context's error, when the time of a call ended before it had its turn: it
	// waited for earlier calls on the same handle, for other handles that commit to the pool, or for another attempt. Its
	// own context ended, or [Options.CommitTimeout] passed, and then the same time again for a commit without a turn. The
	// call changed nothing, unless the error wraps [store.ErrUnknown] too.
	ErrTurn = errors.New("waited for its turn")
	// ErrCorrupt is returned when the pool's records in the store cannot be read. See [Pool.Repair].
	ErrCorrupt = errors.New("corrupt")
	// ErrNewerFormat is returned when a newer release of this library has written the pool, the network or the
	// snapshot, in a format that this release does not know. The message names the version found and the newest one
	// known. Nothing was changed. The pool is intact: upgrade the program, and do not repair the pool.
	ErrNewerFormat = sentinel.ErrNewerFormat
)

// Error says what failed, where, for which owner, and why. Fields that do not apply are zero. It belongs to the caller.
type Error struct {
	Op     string       // such as "allocate"
	Pool   string       // the pool's name; empty for one without a store
	Owner  string       // the owner who asked
	Prefix netip.Prefix // the prefix that it is about
	Err    error        // the cause

	// Family and Bits are those of the request that could not be met. They and the fields down to Total are set if Err
	// wraps [ErrExhausted].
	Family Family
	Bits   int
	// Limited reports whether the request was for only a part of the pool: it named a set, or the pool has bands.
	Limited bool
	// Never reports whether the request could not be met even if nothing were held: what the pool hands out, or the
	// requested part of it, contains no prefix of the length. Only another spec helps. If false, the pool is full for
	// now.
	Never bool
	// Longest is the prefix length, in bits, of the largest free block of the family in the whole pool; -1 if no
	// address is free. A request for that length or a greater one can be met, if it may use the whole pool.
	Longest int
	// Free, Cooling and Total count the addresses of the family in the pool. Addresses may be free although none fits
	// the request.
	Free, Cooling, Total cidr.Count

	// Until is when the cooldown or quarantine of the first address of an exact prefix ends. Zero if an owner holds it,
	// and if Err does not wrap [ErrTaken].
	Until time.Time
	// Share is the share key by which owners hold the first address of an exact prefix, if Err wraps [ErrTaken]; empty if
	// there is none. See [Claim.Share].
	Share string
	// Next is when the first lease or cooldown in the pool ends, or with [ErrQuota] the first lease that counts, if
	// nothing changes before then. Zero if there is none, if that was not looked up, and if Err wraps none of
	// [ErrExhausted], [ErrTaken] and ErrQuota.
	Next time.Time
	// Quota is the quota that the claim would exceed, with what would count with the claim, if Err wraps [ErrQuota].
	Quota QuotaUse
	// Allocations are all those that a change of the pool would leave out of range, at least in part, if Err wraps
	// [ErrOutOfRange].
	Allocations []Allocation
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
	as.explain()
	return &as
}

// explain copies the details of the cause.
func (e *Error) explain() {
	var exhausted *exhaustedError
	var taken *takenError
	var stranded *outOfRangeError
	switch err := e.Err; {
	case errors.As(err, &exhausted):
		e.Family, e.Bits, e.Limited, e.Never = exhausted.family, exhausted.bits, exhausted.limited, exhausted.never
		e.Longest, e.Free, e.Cooling, e.Total = exhausted.longest, exhausted.free, exhausted.cooling, exhausted.total
		e.Next = exhausted.next
	case errors.As(err, &taken):
		e.Until, e.Next, e.Share = taken.until, taken.next, taken.share
	case errors.As(err, &stranded):
		e.Allocations = stranded.allocations
	}
	e.asQuotaError()
}

// exhaustedError is the cause of an [Error] that says which request could not be met, and why: see there.
type exhaustedError struct {
	family               Family
	bits                 int
	limited, never       bool
	longest              int
	free, cooling, total cidr.Count
	next                 time.Time
	hint                 string
	refused              *Request // until never and longest are known
}

// Error says what was requested, how much is free, and when the next address may become free.
func (e *exhaustedError) Error() string {
	text := fmt.Sprintf("%v: no %v /%d is free", ErrExhausted, e.family, e.bits)
	if e.never {
		text = fmt.Sprintf("%v: an %v /%d can never be free", ErrExhausted, e.family, e.bits)
	}
	if e.limited {
		text += " in the part of the pool that was asked for"
	}
	text += fmt.Sprintf("; free addresses: %v of %v", e.free, e.total)
	if e.longest >= 0 && e.longest > e.bits {
		text += fmt.Sprintf(", the longest free block is a /%d", e.longest)
	}
	if !e.cooling.IsZero() {
		text += fmt.Sprintf("; %v cool down", e.cooling)
	}
	if !e.next.IsZero() {
		text += "; the next one may be free at " + e.next.Format(time.RFC3339Nano)
	}
	return text + e.hint
}

// Is makes errors.Is(e, ErrExhausted) true.
func (e *exhaustedError) Is(target error) bool { return target == ErrExhausted }

// outOfRangeError is the cause of an [Error] that lists allocations.
type outOfRangeError struct{ allocations []Allocation }

// Error names the first of the allocations.
func (e *outOfRangeError) Error() string {
	const few = 3
	text := fmt.Sprintf("%v: %d", ErrOutOfRange, len(e.allocations))
	separator := ": "
	for _, a := range e.allocations[:min(few, len(e.allocations))] {
		has := "holds"
		if a.Kept {
			has = "has reserved"
		}
		text += fmt.Sprintf("%s%q %s %v", separator, brief(a.Owner), has, brief(a.Prefixes))
		separator = ", "
	}
	if len(e.allocations) > few {
		text += ", …"
	}
	return text
}

// Is makes errors.Is(e, ErrOutOfRange) true.
func (e *outOfRangeError) Is(target error) bool { return target == ErrOutOfRange }

// quotaError says which quota a claim would exceed.
type quotaError struct {
	whose      space.Whose
	family     Family
	held, most cidr.Count
	next       time.Time
	many       bool // there are too many others that count
}

// Error says whose quota it is, and how much of it is used.
func (e *quotaError) Error() string {
	of := Quota{Label: e.whose.Label, Value: e.whose.Value}.of()
	if e.many {
		return fmt.Sprintf("%v: %s cannot be counted beside %d others", ErrQuota, of, MaxQuotaValues)
	}
	return fmt.Sprintf("%v: %s would hold %v of at most %v %v addresses", ErrQuota, of, e.held, e.most, e.family)
}

// Is makes errors.Is(e, ErrQuota) true.
func (e *quotaError) Is(target error) bool { return target == ErrQuota }

// takenError says why an exact prefix could not be granted.
type takenError struct {
	prefix      netip.Prefix
	until, next time.Time
	reserved    bool   // for another owner
	share       string // the key by which it is held, if it is
}

// Error says whether the prefix is cooling down, and until when, or that it is reserved. The [*Error] around it names
// the prefix.
func (e *takenError) Error() string {
	text := ErrTaken.Error()
	if e.reserved {
		text += ": it is reserved for another owner"
	}
	if e.share != "" {
		text += fmt.Sprintf(": it is shared by the key %q", brief(e.share))
	}
	if !e.until.IsZero() {
		text += ": it cools down until " + e.until.Format(time.RFC3339Nano)
	}
	return text
}

// Is makes errors.Is(e, ErrTaken) true.
func (e *takenError) Is(target error) bool { return target == ErrTaken }

// invalid is an error that wraps [ErrInvalid] and says what is wrong. What it quotes is cut.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalid, errorf(format, args...))
}
