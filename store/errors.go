package store

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ipalloc/ipalloc/internal/sentinel"
)

// Errors that a [Store] returns, for use with [errors.Is].
var (
	// ErrNotFound is returned when there is no record under the key.
	ErrNotFound = sentinel.ErrNotFound
	// ErrInvalid is returned when the caller broke a rule of the contract. Nothing was changed.
	ErrInvalid = sentinel.ErrInvalid
	// ErrConflict is returned when a head has changed since it was read. The error is a [ConflictError].
	ErrConflict = errors.New("conflict")
	// ErrExists is returned when a record to be created exists. The error is an [ExistsError].
	ErrExists = errors.New("already exists")
	// ErrTooLarge is returned when a commit is larger than the backend takes. The error is a [TooLargeError].
	ErrTooLarge = errors.New("too large")
	// ErrClosed is returned after the store was closed.
	ErrClosed = errors.New("store is closed")
	// ErrUnknown is returned when a commit may have taken effect, or may yet do so. The caller reads the records again,
	// and commits again with the heads that it then sees.
	ErrUnknown = errors.New("outcome unknown")
	// ErrNewerFormat is returned for stored data in a version of its format that only a newer release knows. The message
	// names the version found and the newest one known. Nothing was changed.
	ErrNewerFormat = sentinel.ErrNewerFormat
	// ErrDamaged is returned for a stored record that cannot be read or is in the wrong place, because something other
	// than this library has changed it. List returns it as a [DamagedError].
	ErrDamaged = errors.New("damaged")
)

// DamagedError names the damaged records that a listing could not yield, or would have overlooked. It matches
// [ErrDamaged]. It is the caller's.
type DamagedError struct {
	// Damaged has one error for each damaged record, which names the record as the backend does.
	Damaged []error
}

// Error names the first three.
func (e *DamagedError) Error() string {
	const few = 3
	text := fmt.Sprintf("%v: %d", ErrDamaged, len(e.Damaged))
	separator := ": "
	for _, err := range e.Damaged[:min(few, len(e.Damaged))] {
		text += fmt.Sprintf("%s%.400v", separator, err)
		separator = "; "
	}
	if len(e.Damaged) > few {
		text += "; …"
	}
	return text
}

// Is makes errors.Is(e, ErrDamaged) true.
func (e *DamagedError) Is(target error) bool { return target == ErrDamaged }

// Unwrap returns Damaged.
func (e *DamagedError) Unwrap() []error { return e.Damaged }

// ConflictError is returned by [Store.Commit] if one of the heads was not at the revision that the caller named. It
// matches [ErrConflict]. It is the caller's, like the record in it.
type ConflictError struct {
	// Expected is the revision that the caller named; 0 if it wanted to create the head.
	Expected int64
	// Current is the head as it is now stored, so that the caller can plan again without a read. If there is no head,
	// Current has revision 0 and only its Key is set.
	Current Record
}

// Error names the head and both revisions.
func (e *ConflictError) Error() string {
	describe := func(revision int64) string {
		if revision == 0 {
			return "no such record"
		}
		return fmt.Sprintf("revision %d", revision)
	}
	return fmt.Sprintf("%v: head %v: expected %s, found %s",
		ErrConflict, e.Current.Key, describe(e.Expected), describe(e.Current.Revision))
}

// Is makes errors.Is(e, ErrConflict) true.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// ExistsError is returned by [Store.Commit] if records to be created exist. It matches [ErrExists].
type ExistsError struct {
	// Records are the existing records, as stored: all of them if the backend can tell, and always at least one.
	Records []Record
}

// Error names the keys.
func (e *ExistsError) Error() string {
	keys := make([]string, len(e.Records))
	for i, r := range e.Records {
		keys[i] = r.Key.String()
	}
	return fmt.Sprintf("%v: %s", ErrExists, strings.Join(keys, ", "))
}

// Is makes errors.Is(e, ErrExists) true.
func (e *ExistsError) Is(target error) bool { return target == ErrExists }

// TooLargeError is returned by [Store.Commit] if the backend does not take so much in one commit. It matches
// [ErrTooLarge].
type TooLargeError struct {
	// What names what is too large and its unit, such as "commit in bytes" or "writes in a commit".
	What string
	// Size is its size, and Limit the largest that the backend takes. Either is 0 if the backend does not tell.
	Size, Limit int64
}

// Error says what is too large, and by how much.
func (e *TooLargeError) Error() string {
	text := fmt.Sprintf("%v: %s", ErrTooLarge, e.What)
	if e.Size > 0 {
		text += fmt.Sprintf(": %d", e.Size)
	}
	if e.Limit > 0 {
		text += fmt.Sprintf(", the most is %d", e.Limit)
	}
	return text
}

// Is makes errors.Is(e, ErrTooLarge) true.
func (e *TooLargeError) Is(target error) bool { return target == ErrTooLarge }
