package bolt

import (
	"fmt"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
)

// formatVersion is the version of the file's layout that this package writes, and the only one that it reads.
const formatVersion = 1

// The buckets and the keys of the first of them. What they hold is said in the package comment.
const (
	bucketFormat   = "ipalloc"
	bucketRecords  = "records"
	bucketPrefixes = "prefixes"
	bucketExpiry   = "expiry"

	keyName    = "name"
	keyVersion = "version"

	formatName = "ipalloc store"
)

// initialise makes the empty file at path a store without records.
func initialise(path string) error {
	db, err := bbolt.Open(path, defaultMode, &bbolt.Options{Timeout: time.Nanosecond})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range []string{bucketRecords, bucketPrefixes, bucketExpiry} {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		format, err := tx.CreateBucket([]byte(bucketFormat))
		if err != nil {
			return err
		}
		if err := format.Put([]byte(keyName), []byte(formatName)); err != nil {
			return err
		}
		return format.Put([]byte(keyVersion), []byte(strconv.Itoa(formatVersion)))
	})
	if closeErr := db.Close(); err == nil {
		err = closeErr
	}
	return err
}

// verify returns why the open file is not a store that this package can use, or nil. It looks at the file's frame
// only, in O(1).
func verify(db *bbolt.DB) error { return db.View(verifyFormat) }

func verifyFormat(tx *bbolt.Tx) error {
	format := tx.Bucket([]byte(bucketFormat))
	if format == nil || string(format.Get([]byte(keyName))) != formatName {
		return fmt.Errorf("%w: it is another program's bbolt file, without %q in a bucket %q", ErrForeign, formatName,
			bucketFormat)
	}
	text := string(format.Get([]byte(keyVersion)))
	version, err := strconv.Atoi(text)
	switch {
	case err != nil || version < 1:
		return fmt.Errorf("%w: its format version is %.20q, want a number from 1", ErrCorrupt, text)
	case version != formatVersion:
		return fmt.Errorf("%w: %d, the one that this program knows is %d", ErrVersion, version, formatVersion)
	}
	for _, name := range []string{bucketRecords, bucketPrefixes, bucketExpiry} {
		if tx.Bucket([]byte(name)) == nil {
			return fmt.Errorf("%w: it lacks the bucket %q", ErrCorrupt, name)
		}
	}
	return nil
}
