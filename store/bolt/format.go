package bolt

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"go.etcd.io/bbolt"

	"github.com/ipalloc/ipalloc/store"
)

// formatVersion is the version of the file's layout that this package writes, and the only one that it reads.
const formatVersion = 1

// The buckets and the keys of the first of them. What they hold is said in the package comment.
const (
	bucketFormat   = "ipalloc"
	bucketRecords  = "records"
	bucketPieces   = "pieces"
	bucketPrefixes = "prefixes"
	bucketExpiry   = "expiry"
	bucketLabels   = "labels"

	keyName    = "name"
	keyVersion = "version"

	formatName = "ipalloc store"
)

// allBuckets are those that every file has beside the first.
var allBuckets = []string{bucketRecords, bucketPieces, bucketPrefixes, bucketExpiry, bucketLabels}

// bucketOf returns the bucket of the records of a kind. Pieces of free space have one of their own: they are large, so
// that they would fill the pages that heads and allocations share, which each commit writes.
func bucketOf(kind store.Kind) string {
	if kind == store.KindSpace {
		return bucketPieces
	}
	return bucketRecords
}

// initialise makes the empty file at path a store without records. It is flushed once it is whole: nobody looks at it
// before.
func initialise(path string) error {
	db, err := bbolt.Open(path, defaultMode, &bbolt.Options{Timeout: time.Nanosecond, NoSync: true, NoGrowSync: true})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range allBuckets {
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
	if err == nil {
		err = db.Sync()
	}
	if closeErr := db.Close(); err == nil {
		err = closeErr
	}
	return err
}

// verify returns why the open file is not a store that this package can use, or nil. It looks at the file's frame
// only, in O(1).
func verify(db *bbolt.DB, file *os.File) error {
	return db.View(func(tx *bbolt.Tx) error { return verifyFormat(tx, newPages(file, tx)) })
}

func verifyFormat(tx *bbolt.Tx, p *pages) error {
	name, err := formatValue(tx, p, keyName)
	switch {
	case err != nil:
		return err
	case name != formatName:
		return fmt.Errorf("%w: it is another program's bbolt file, without %q in a bucket %q", ErrForeign, formatName,
			bucketFormat)
	}
	text, err := formatValue(tx, p, keyVersion)
	if err != nil {
		return err
	}
	version, err := strconv.Atoi(text)
	switch {
	case err != nil || version < 1:
		return fmt.Errorf("%w: its format version is %.20q, want a number from 1", ErrCorrupt, text)
	case version > formatVersion:
		return fmt.Errorf("%w: the file has version %d, this program knows up to %d", store.ErrNewerFormat, version,
			formatVersion)
	}
	for _, name := range allBuckets {
		if _, err := p.bucketTree(tx, name); err != nil {
			return err
		}
	}
	return nil
}

// formatValue returns what the first bucket has under key, nothing if the file has no such bucket.
func formatValue(tx *bbolt.Tx, p *pages, key string) (string, error) {
	if _, err := p.rootTree(tx).path([]byte(bucketFormat), true); err != nil {
		return "", err
	}
	if tx.Bucket([]byte(bucketFormat)) == nil {
		return "", nil
	}
	format, err := p.bucket(tx, bucketFormat)
	if err != nil {
		return "", err
	}
	value, err := format.get([]byte(key))
	return string(value), err
}
