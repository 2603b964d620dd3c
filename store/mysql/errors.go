package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/netip"

	"github.com/go-sql-driver/mysql"

	"github.com/ipalloc/ipalloc/store"
)

// Errors of this package, for use with [errors.Is].
var (
	// ErrNoSchema is returned when the tables are missing or old, and this program lacks the right to create them, or
	// was told not to.
	ErrNoSchema = errors.New("no tables of this version in the schema")
	// ErrReadOnly is returned when the server is read-only, as a replica is, or a server that was demoted. Nothing was
	// changed. The connection is given up, so the next call may reach another server.
	ErrReadOnly = errors.New("the server is read-only")
	// ErrOverlap is returned when a commit was refused because an address would have had two holders. The error is an
	// [OverlapError].
	ErrOverlap = errors.New("addresses overlap")
)

// OverlapError is returned when a commit was refused because two records of [store.KindAllocation] or
// [store.KindCooling] in one pool would have had overlapping prefixes. Nothing was changed. It matches [ErrOverlap].
type OverlapError struct {
	// Record is the record of the commit that was to hold Prefix.
	Record store.Key
	// Prefix was to be written. Standing is the prefix of another record, perhaps in the same commit, with which it
	// overlaps.
	Prefix, Standing netip.Prefix
}

// Error names the prefixes and the record.
func (e *OverlapError) Error() string {
	return fmt.Sprintf("%v: prefix %v of %v overlaps with %v of another record in pool %q",
		ErrOverlap, e.Prefix, e.Record, e.Standing, e.Record.Pool)
}

// Is makes errors.Is(e, ErrOverlap) true.
func (e *OverlapError) Is(target error) bool { return target == ErrOverlap }

// The numbers of the errors of MySQL and MariaDB that are told apart, see their documentation. Those from 1,900 to
// 3,000 are MariaDB's, those above are MySQL's.
const (
	errDBAccessDenied      = 1044
	errBadDB               = 1049
	errShutdown            = 1053
	errDuplicate           = 1062
	errTableAccessDenied   = 1142
	errNoSuchTable         = 1146
	errPacketTooLarge      = 1153
	errLockWaitTimeout     = 1205
	errDeadlock            = 1213
	errSpecificDenied      = 1227
	errOptionPrevents      = 1290 // read_only
	errRowTooLarge         = 1118
	errProcAccessDenied    = 1370
	errChanged             = 1020 // since the transaction has begun to read
	errReadOnlyTransaction = 1792
	errReadOnlyMode        = 1836
	errUserLockDeadlock    = 3058
	errRolledBack          = 3101 // at the commit, by the replication of a group
)

// The states of errors that the procedures raise.
const (
	stateOvertaken = "IPA01"
	statePatience  = "IPA02"
)

func isNoPrivilege(number uint16) bool {
	switch number {
	case errDBAccessDenied, errTableAccessDenied, errSpecificDenied, errProcAccessDenied:
		return true
	default:
		return false
	}
}

// errVanished says that a record to be created existed, and does not any more.
var errVanished = errors.New("a record that was in the way has gone meanwhile")

// judge says of the error that came of a commit whether the outcome is unknown. Done says that the server had said that
// the commit comes next.
//
// The procedure says so right before it commits. So an error of the server before that is a refusal, whatever it is:
// the procedure rolls back, or the session is ended, which does the same. Of those after it, only a few tell that the
// server has rolled back. Where there is no error of the server, nothing is known.
func judge(err error, done bool) error {
	var refused *mysql.MySQLError
	switch {
	case err == nil, errors.Is(err, driver.ErrBadConn), errors.Is(err, mysql.ErrPktTooLarge):
		return err
	case errors.As(err, &refused):
		if !done || refused.Number == errDeadlock || refused.Number == errRolledBack {
			return err
		}
	}
	return fmt.Errorf("%w: %w", store.ErrUnknown, err)
}

// retriable says of the error of a commit that was refused whether it is due to another commit that ran at the same
// time, or to a connection that was lost before. Tried again, it succeeds, or fails with a reason that can be told.
func retriable(err error) bool {
	if errors.Is(err, store.ErrUnknown) {
		return false
	}
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, errVanished) || isTurnOver(err) {
		return true
	}
	var refused *mysql.MySQLError
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.Number {
	case errDeadlock, errLockWaitTimeout, errUserLockDeadlock, errRolledBack, errDuplicate, errChanged:
		return true
	}
	state := string(refused.SQLState[:])
	return state == stateOvertaken || state == statePatience
}

// isTurnOver reports whether the turn of a commit ended before it, or those to be answered have left.
func isTurnOver(err error) bool { return errors.Is(err, errTurnOver) || errors.Is(err, errLeft) }

// explain turns MySQL's refusals into this library's, where there is one.
func explain(err error) error {
	if errors.Is(err, store.ErrUnknown) {
		return err
	}
	if errors.Is(err, mysql.ErrPktTooLarge) {
		return errors.Join(&store.TooLargeError{What: "commit in bytes, as the driver says"}, err)
	}
	var refused *mysql.MySQLError
	if !errors.As(err, &refused) {
		return err
	}
	switch refused.Number {
	case errOptionPrevents, errReadOnlyTransaction, errReadOnlyMode:
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	case errPacketTooLarge, errRowTooLarge:
		return errors.Join(&store.TooLargeError{What: "commit in bytes, as the server says: " + refused.Message}, err)
	default:
		return err
	}
}

// withContext adds the context's error to err, if that has ended: what database/sql returns then may not have it.
func withContext(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil || errors.Is(err, ctx.Err()) {
		return err
	}
	return fmt.Errorf("%w: %w", ctx.Err(), err)
}

// overlapError is what apply says of an overlap.
func overlapError(r *reply) (*OverlapError, error) {
	const values = 5
	if len(r.values) != values {
		return nil, fmt.Errorf("the server's answer %q has %d columns", r.outcome, len(r.values)+1)
	}
	v := r.values
	e := &OverlapError{Record: store.Key{Kind: store.Kind(v[0].String), Pool: v[1].String, Name: v[2].String}}
	var errs [2]error
	e.Prefix, errs[0] = netip.ParsePrefix(v[3].String)
	e.Standing, errs[1] = netip.ParsePrefix(v[4].String)
	return e, errors.Join(errs[:]...)
}
