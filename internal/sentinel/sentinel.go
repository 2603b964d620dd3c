// Package sentinel has the errors that several packages of this module export under one name. Each is one variable, so
// it does not matter with which package's a caller compares.
package sentinel

import "errors"

// The errors.
var (
	ErrInvalid   = errors.New("invalid")
	ErrNotFound  = errors.New("not found")
	ErrExhausted = errors.New("exhausted")
	ErrTaken     = errors.New("taken")
)
