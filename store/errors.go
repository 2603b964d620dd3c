package store

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ipalloc/ipalloc/internal/sentinel"
)

// Errors that a [Store] returns, for use with [errors.Is].
var (
	// ErrNotFound says that there is no record under the key.
	ErrNotFound = sentinel.ErrNotFound
	// ErrInvalid says that the caller broke a rule of the contract. Nothing was changed.
	ErrInvalid = sentinel.ErrInvalid
	// ErrConflict says that a head has changed since it was read. The error is a [ConflictError].
	ErrConflict = errors.New("conflict")
	// ErrExists says that a record to be created exists. The error is an [ExistsError].
	ErrExists = errors.New("already exists")
	// ErrTooLarge says that a commit is larger than the backend takes. The error is a [TooLargeError].
	ErrTooLarge = errors.New("too large")
	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("store is closed")
	// ErrUnknown says that a commit may or may not have taken effect, and may yet do so. The caller reads
	// the records again, and commits again with the heads that it then sees.
	ErrUnknown = errors.New("outcome unknown")
	// ErrNewerFormat says that something is stored in a version of its format that only a newer release knows. The
	// message names the version found and the newest one known. Nothing was changed.
	ErrNewerFormat = sentinel.ErrNewerFormat
	// ErrDamaged says that something is stored that makes no sense, or that is not where it belongs: somebody else has
	// changed it. From a listing it is a [DamagedError].
	ErrDamaged = errors.New("damaged")
)

// DamagedError names what a listing could not yield, or would have overlooked, because it is damaged. It matches
// [ErrDamaged]. It is the caller's.
type DamagedError struct {
	// Damaged are the errors of what is damaged, one for each. Each names it as the backend does.
	Damaged []error
}

// Error names the first few.
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

// ConflictError is why [Store.Commit] did nothing: one of its heads was not at the revision that it named.
// It matches [ErrConflict]. Stores return a new one each time, which is the caller's, like the record in it.
type ConflictError struct {
	// Expected is the revision that the caller named; 0 if it wanted to create the head.
	Expected int64
	// Current is the head as it is stored now, so that a caller can plan again without reading. If there
	// is no head, its Revision is 0 and of its fields only the Key is set.
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

// ExistsError is why [Store.Commit] did nothing: it was to create records whose keys exist. It matches
// [ErrExists].
type ExistsError struct {
	// Records are the records that stand in the way, as they are stored: all of them if the backend can
	// tell, at least one in any case.
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

// TooLargeError is why [Store.Commit] did nothing: the backend does not take as much in one commit. It
// matches [ErrTooLarge].
type TooLargeError struct {
	// What is too large and its unit, such as "commit in bytes", "writes in a commit".
	What string
	// Size is how large it is, and Limit how large it may be. Either is 0 if the backend does not tell.
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
