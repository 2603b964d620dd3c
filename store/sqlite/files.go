package sqlite

import (
	"fmt"
	"io/fs"
	"os"
)

// files are the file and its log, as they were when the store was opened. SQLite does not notice when they are removed
// or replaced.
type files []openFile

type openFile struct {
	path string
	info fs.FileInfo
}

// newFiles returns the files at path, of which the first one was looked at before it was opened.
func newFiles(path string, before fs.FileInfo) (files, error) {
	log, err := os.Stat(path + logSuffix)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReplaced, err)
	}
	f := files{{path, before}, {path + logSuffix, log}}
	return f, f.check()
}

// check returns an error if a file is not at its path any more. Cost: two stats.
func (f files) check() error {
	for i, one := range f {
		info, err := os.Stat(one.path)
		switch {
		case err != nil:
			return fmt.Errorf("%w: %w", ErrReplaced, err)
		case !os.SameFile(info, one.info):
			return fmt.Errorf("%w: another file is at %s", ErrReplaced, one.path)
		case i == 0 && info.Size() == 0:
			return fmt.Errorf("%w: it was emptied while it was open", ErrCorrupt)
		}
	}
	return nil
}
