package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ipalloc/ipalloc/store"
)

// Errors of this package, for use with [errors.Is].
var (
	// ErrNoSchema is returned when the tables are missing or old, and this program lacks the right to create them, or
	// was told not to.
	ErrNoSchema = errors.New("no tables of this version in the schema")
	// ErrOverlap is returned when a commit was refused because an address would have had two holders. The error is an
	// [OverlapError].
	ErrOverlap = errors.New("addresses overlap")
)

// OverlapError is returned when a commit was refused because two records of [store.KindAllocation] or
// [store.KindCooling] in one pool would have had overlapping prefixes. Nothing was changed. It matches [ErrOverlap],
// and wraps PostgreSQL's own error.
type OverlapError struct {
	// Constraint is the name of the constraint in the database.
	Constraint string
	// Record is the record of the commit that was to hold Prefix; the zero Key if the database does not tell.
	Record store.Key
	// Prefix was to be written. Standing is the prefix of another record, perhaps in the same commit, with which it
	// overlaps. Both are the zero Prefix if the database does not tell, because the role lacks the right to read the
	// table.
	Prefix, Standing netip.Prefix

	cause error
}

// Error names the constraint, the prefixes and the record.
func (e *OverlapError) Error() string {
	return fmt.Sprintf("%v: the constraint %q keeps prefix %v of %v from overlapping with %v of another record in "+
		"pool %q: %v",
		ErrOverlap, e.Constraint, e.Prefix, e.Record, e.Standing, e.Record.Pool, e.cause)
}

// Is makes errors.Is(e, ErrOverlap) true.
func (e *OverlapError) Is(target error) bool { return target == ErrOverlap }

// Unwrap returns PostgreSQL's error.
func (e *OverlapError) Unwrap() error { return e.cause }

// The codes of PostgreSQL's errors that are told apart, see its documentation, appendix A.
const (
	codeInvalidSchema     = "3F000"
	codeUndefinedTable    = "42P01"
	codeNoPrivilege       = "42501"
	codeUniqueViolation   = "23505"
	codeExclusion         = "23P01"
	codeSerialization     = "40001"
	codeDeadlock          = "40P01"
	codeIdleTimeout       = "25P03" // idle in a transaction
	codeLeft              = "IPA01" // of apply_turn: one that was to be answered has left
	classLimitExceeded    = "54"
	classOperatorsDecided = "57" // shut down, cancelled
)

// judge says of the error that came of a commit whether the outcome is unknown. Completed says that the server had said
// that the function is done.
//
// The function runs in a transaction of its own, which the server commits after it has said that the function is done
// and before it says that it is ready for the next statement. So an error before the former is a refusal, whatever it
// is. An error after it is a refusal too if it is one of committing, such as a deferred constraint that is violated; if
// the session ends then, or was to be cancelled, it may have committed before. With the simple protocol, it says that
// the function is done only after it has committed. Where there is no error from the server, but none of its answers
// either, nothing is known.
func judge(ctx context.Context, err error, completed bool, mode pgx.QueryExecMode) error {
	var refused *pgconn.PgError
	switch {
	case pgconn.SafeToRetry(err): // nothing was sent
		return withContext(ctx, err)
	case errors.As(err, &refused):
		ending := refused.SeverityUnlocalized == "FATAL" || refused.SeverityUnlocalized == "PANIC" ||
			strings.HasPrefix(refused.Code, classOperatorsDecided)
		if !ending || !completed && mode != pgx.QueryExecModeSimpleProtocol {
			return err
		}
	}
	return fmt.Errorf("%w: %w", store.ErrUnknown, withContext(ctx, err))
}

// retriable says of the error of a commit that was refused whether another commit that ran at the same time is the
// reason: it created a record first, or the two waited for one another. Tried again, it succeeds, or fails with a
// reason that can be told.
func retriable(err error) bool {
	var refused *pgconn.PgError
	if errors.Is(err, store.ErrUnknown) || !errors.As(err, &refused) {
		return false
	}
	switch refused.Code {
	case codeSerialization, codeDeadlock, codeUniqueViolation:
		return true
	default:
		return errors.Is(err, errTurnOver)
	}
}

// explain turns PostgreSQL's refusals into this library's, where there is one.
func explain(b *batch, err error) error {
	var refused *pgconn.PgError
	if errors.Is(err, store.ErrUnknown) || !errors.As(err, &refused) {
		return err
	}
	switch {
	case refused.Code == codeExclusion:
		return overlapError(b, refused)
	case strings.HasPrefix(refused.Code, classLimitExceeded):
		return errors.Join(&store.TooLargeError{What: "commit, as PostgreSQL says: " + refused.Message}, err)
	default:
		return err
	}
}

// overlapDetail finds the two prefixes in the detail of the error, which is, in whatever language,
// "Key (…, prefix)=(…, 10.0.0.1/32) conflicts with existing key (…, prefix)=(…, 10.0.0.0/24)".
var overlapDetail = regexp.MustCompile(`(?s), ([0-9a-f.:/]+)\).*, ([0-9a-f.:/]+)\)`)

func overlapError(b *batch, refused *pgconn.PgError) error {
	e := &OverlapError{Constraint: refused.ConstraintName, cause: refused}
	found := overlapDetail.FindStringSubmatch(refused.Detail)
	if found == nil {
		return e
	}
	e.Prefix, e.Standing = parseInet(found[1]), parseInet(found[2])
	for i := range b.rows {
		r := &b.rows[i].record
		holds := r.Kind == store.KindAllocation || r.Kind == store.KindCooling
		if holds && b.rows[i].op != opDelete && slices.Contains(r.Prefixes, e.Prefix) {
			e.Record = r.Key
			break
		}
	}
	return e
}

// parseInet parses a prefix as PostgreSQL writes it: without a length if it is a single address.
func parseInet(text string) netip.Prefix {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen())
	}
	p, _ := netip.ParsePrefix(text) // not valid if it is something else
	return p
}
