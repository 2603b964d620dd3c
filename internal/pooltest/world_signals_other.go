//go:build !unix

package pooltest

import "os"

// suspend does nothing: this system cannot stop a process for a time.
func suspend(*os.Process) error { return nil }

func resume(*os.Process) error { return nil }
