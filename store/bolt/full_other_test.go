//go:build !linux

package bolt_test

import "errors"

// limited is for tests that run on Linux.
func limited(string) error { return errors.ErrUnsupported }

// limitedSpare is for tests that run on Linux.
func limitedSpare(string) error { return errors.ErrUnsupported }

// limitedShrink is for tests that run on Linux.
func limitedShrink(string) error { return errors.ErrUnsupported }
