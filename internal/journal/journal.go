package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// The names of the files in a folder of journals.
const (
	clockName = "clock"
	suffix    = ".jsonl"
)

// Journal is the journal of one process. The zero Journal is not usable, see [Create], and a Journal must not be
// copied. All methods may be called by any number of goroutines at once.
type Journal struct {
	process string
	clock   *Clock

	mu   sync.Mutex
	file *os.File
	last int64 // the number of the last call
}

// Create begins the journal of a process in a folder, which all processes share. It fails with [os.ErrExist] if there
// is a journal of that name: a process that is started again takes another name.
func Create(folder, process string) (*Journal, error) {
	clock, err := OpenClock(filepath.Join(folder, clockName))
	if err != nil {
		return nil, err
	}
	path := filepath.Join(folder, process+suffix)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("begin the journal of %s: %w", process, err), clock.Close())
	}
	return &Journal{process: process, clock: clock, file: file}, nil
}

// Close closes the files. Calls that have begun and not returned stay so.
func (j *Journal) Close() error { return errors.Join(j.file.Close(), j.clock.Close()) }

// Record keeps a call: the intent, then do, then what do returns. The error is that of the journal, before do is
// called or after it; what went wrong with the call itself is in the result. Cost: two flushes of the file.
func (j *Journal) Record(intent Intent, do func() Result) error {
	number, err := j.begin(intent)
	if err != nil {
		return err
	}
	result := do()
	// The stamp comes after the call's end, and is on the disk before the caller goes on.
	return j.write(Event{Call: number, Result: &result})
}

// Died keeps that a process was killed, and is gone: it sends nothing any more, though what it had sent may still
// arrive.
func (j *Journal) Died(process string) error {
	_, err := j.begin(Intent{Op: Died, Owner: process})
	return err
}

func (j *Journal) begin(intent Intent) (int64, error) {
	j.mu.Lock()
	j.last++
	number := j.last
	j.mu.Unlock()
	return number, j.write(Event{Call: number, Intent: &intent})
}

// write appends a line with its stamp, and returns when it is on the disk.
func (j *Journal) write(e Event) error {
	if err := j.append(e); err != nil {
		return fmt.Errorf("journal of %s: %w", j.process, err)
	}
	// Outside of the lock, so that goroutines share a flush where the file system lets them.
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("journal of %s: %w", j.process, err)
	}
	return nil
}

func (j *Journal) append(e Event) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var err error
	e.Process = j.process
	if e.At, err = j.clock.Now(); err != nil {
		return err
	}
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = j.file.Write(append(line, '\n'))
	return err
}
