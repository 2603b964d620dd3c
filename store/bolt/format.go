package bolt

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
)

// formatVersion is the version of the file's layout that this package writes, and the newest that it reads. Version 1 has no index by
// expiry.
const formatVersion = 2

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

// verify returns the format version of the open file, or why it is not a store that this package can use. It looks at the
// file's frame only, in O(1).
func verify(db *bbolt.DB, path string) (version int, err error) {
	err = db.View(func(tx *bbolt.Tx) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if info.Size() < tx.Size() {
			return fmt.Errorf("%w: it has %d bytes, want at least %d", ErrCorrupt, info.Size(), tx.Size())
		}
		version, err = verifyFormat(tx)
		return err
	})
	return version, err
}

func verifyFormat(tx *bbolt.Tx) (version int, err error) {
	format := tx.Bucket([]byte(bucketFormat))
	if format == nil || string(format.Get([]byte(keyName))) != formatName {
		return 0, fmt.Errorf("%w: it is another program's bbolt file, without %q in a bucket %q", ErrForeign, formatName, bucketFormat)
	}
	text := string(format.Get([]byte(keyVersion)))
	version, err = strconv.Atoi(text)
	switch {
	case err != nil || version < 1:
		return 0, fmt.Errorf("%w: its format version is %.20q, want a number from 1 to %d", ErrCorrupt, text, formatVersion)
	case version > formatVersion:
		return 0, fmt.Errorf("%w: %d, the newest that this program knows is %d", ErrVersion, version, formatVersion)
	}
	buckets := []string{bucketRecords, bucketPrefixes, bucketExpiry}
	if version == 1 {
		buckets = buckets[:2]
	}
	for _, name := range buckets {
		if tx.Bucket([]byte(name)) == nil {
			return 0, fmt.Errorf("%w: it lacks the bucket %q", ErrCorrupt, name)
		}
	}
	return version, nil
}

// upgrade makes a file of version 1 one of version 2, or changes nothing.
func upgrade(db *bbolt.DB) error {
	return db.Update(func(tx *bbolt.Tx) error {
		if _, err := tx.CreateBucketIfNotExists([]byte(bucketExpiry)); err != nil {
			return err
		}
		c := newChange(tx)
		err := c.records.ForEach(func(text, value []byte) error {
			key, err := decodeKey(text)
			if err != nil {
				return err
			}
			r, err := decodeRecord(key, value)
			if err != nil {
				return err
			}
			return c.reindexExpires(key, time.Time{}, r.Expires)
		})
		if err != nil {
			return err
		}
		return tx.Bucket([]byte(bucketFormat)).Put([]byte(keyVersion), []byte(strconv.Itoa(formatVersion)))
	})
}
