// Package sentinel has the errors that several packages of this module export under one name. Each is one variable, so
// it does not matter with which package's a caller compares.
package sentinel

import (
	"errors"
	"fmt"
)

// The errors.
var (
	ErrInvalid   = errors.New("invalid")
	ErrNotFound  = errors.New("not found")
	ErrExhausted = errors.New("exhausted")
	ErrTaken     = errors.New("taken")

	ErrNewerFormat = errors.New("newer format")
)

// NewerFormat returns an error that wraps [ErrNewerFormat] if what was found has a version after the newest known one.
func NewerFormat(what string, found, known int) error {
	if found <= known {
		return nil
	}
	return fmt.Errorf("%w: %s has version %d, this program knows up to %d", ErrNewerFormat, what, found, known)
}
