// Package sentinel has the errors that several packages of this module export under one name. Each is one variable, so
// it does not matter with which package's a caller compares.
package sentinel

import "errors"

// The errors.
var (
	Invalid   = errors.New("invalid")
	NotFound  = errors.New("not found")
	Exhausted = errors.New("exhausted")
	Taken     = errors.New("taken")
)
