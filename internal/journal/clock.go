package journal

import (
	"fmt"
	"io"
	"os"
	"sync"
)

// Clock gives stamps to all processes that share a file: each is greater than all that were given before, by
// whichever process. So their order is that of the real time, whatever the processes' own clocks say.
//
// A stamp is the length of the file after one byte was appended to it, which the operating system does for one
// process after the other.
//
// The zero Clock is not usable, see [OpenClock]. A Clock must not be copied. All methods may be called by any number
// of goroutines at once. Cost of a stamp: two system calls.
type Clock struct {
	mu   sync.Mutex
	file *os.File
}

// OpenClock returns the clock that the file at path is. It makes the file if there is none.
func OpenClock(path string) (*Clock, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the clock: %w", err)
	}
	return &Clock{file: file}, nil
}

// Now returns the next stamp.
func (c *Clock) Now() (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.file.Write([]byte{'.'}); err != nil {
		return 0, fmt.Errorf("take a stamp: %w", err)
	}
	// The file's position is behind the byte that this handle has appended, also if others have appended more since.
	at, err := c.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, fmt.Errorf("take a stamp: %w", err)
	}
	return at, nil
}

// Close closes the file.
func (c *Clock) Close() error { return c.file.Close() }
