package adopt

import (
	"errors"
	"io"
	"os"
)

// Spool writes what r has into a temporary file, for the readers, which read their sources more than once: for a pipe,
// such as the standard input. The caller calls remove when the file is no longer needed. Cost: O(1) of memory.
func Spool(r io.Reader) (file io.ReadSeeker, remove func() error, err error) {
	f, err := os.CreateTemp("", "ipalloc-")
	if err != nil {
		return nil, nil, err
	}
	remove = func() error { return errors.Join(f.Close(), os.Remove(f.Name())) }
	if _, err := io.Copy(f, r); err != nil {
		return nil, nil, errors.Join(err, remove())
	}
	return f, remove, nil
}
