package bolt

// bbolt writes its whole list of free pages with each commit, 8 bytes for each page. After a large release that is most
// of what a commit writes. So this file keeps the list short: most free pages stand in the bucket "spare", of which a
// commit changes a few entries at most. To bbolt these pages are neither in use nor free.
//
// If another program copies the buckets to a new file, as "bbolt compact" does, the numbers of the pages mean nothing
// there. So how many pages are spare also stands in the flags of the meta, which bbolt does not use: it keeps them from
// one commit to the next, and a new file has 0.
//
// This reaches private fields of bbolt. Where a later bbolt has others, nothing becomes spare, and a commit writes
// what bbolt's own list takes. TestShrunkPool fails then.

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"unsafe"

	"go.etcd.io/bbolt"
)

const (
	bucketSpare = "spare"
	// spareEntry is how many pages an entry of the bucket has at most.
	spareEntry = 240
	// The list takes one page with up to mostFree free pages and those that the commit itself frees. Putting aside
	// leaves keptFree of them, and some are taken back where there would be less than leastFree.
	mostFree, keptFree, leastFree = 380, 160, 40
)

// freePages are bbolt's list of free pages, and the meta of the transaction that changes it.
type freePages struct {
	list          freeCounts
	copyAll, init reflect.Value
	meta          metaFlags
}

type freeCounts interface {
	FreeCount() int
	PendingCount() int
}

type metaFlags interface {
	Flags() uint32
	SetFlags(n uint32)
}

// freePagesOf returns the list for a transaction that writes, if this bbolt has one of the kind that is known here.
func freePagesOf(tx *bbolt.Tx) (f freePages, ok bool) {
	list, meta := private(tx.DB(), "freelist"), private(tx, "meta")
	if !list.IsValid() || !meta.IsValid() {
		return f, false
	}
	if f.list, ok = list.Interface().(freeCounts); !ok {
		return f, false
	}
	if f.meta, ok = meta.Interface().(metaFlags); !ok {
		return f, false
	}
	f.copyAll, f.init = list.MethodByName("Copyall"), list.MethodByName("Init")
	return f, takesPages(f.copyAll) && takesPages(f.init)
}

// private returns the private field that an object has under the name; the zero Value if there is none or it is nil.
func private(object any, name string) reflect.Value {
	field := reflect.ValueOf(object).Elem().FieldByName(name)
	if kind := field.Kind(); kind != reflect.Interface && kind != reflect.Pointer || field.IsNil() {
		return reflect.Value{}
	}
	return reflect.NewAt(field.Type(), field.Addr().UnsafePointer()).Elem()
}

// takesPages reports whether the method takes the numbers of pages, and returns nothing.
func takesPages(method reflect.Value) bool {
	if !method.IsValid() || method.Type().NumIn() != 1 || method.Type().NumOut() != 0 {
		return false
	}
	in := method.Type().In(0)
	return in.Kind() == reflect.Slice && in.Elem().Kind() == reflect.Uint64
}

// call calls the method with the numbers of pages.
func call(method reflect.Value, numbers []uint64) {
	pointer := unsafe.Pointer(&numbers) //nolint:gosec // the type that the method takes has the same layout
	method.Call([]reflect.Value{reflect.NewAt(method.Type().In(0), pointer).Elem()})
}

// numbers returns the free pages in order. None is pending.
func (f freePages) numbers() []uint64 {
	numbers := make([]uint64, f.list.FreeCount())
	call(f.copyAll, numbers)
	return numbers
}

// spares are the free pages of a file in a transaction that writes.
type spares struct {
	freePages
	tx     *bbolt.Tx
	pages  *pages
	bucket *bucket // nil if there is none yet
}

// balance sees to it that bbolt's list has enough free pages for the transaction, and not many more. need is how many
// pages it may write. This must be the last thing in the transaction, because what it does to the list is not undone
// if the transaction is rolled back before bbolt commits it.
func (p *pages) balance(tx *bbolt.Tx, need int) (err error) {
	free, ok := freePagesOf(tx)
	if !ok || free.list.PendingCount() > 0 { // somebody reads: a later commit does it
		return nil
	}
	s := spares{freePages: free, tx: tx, pages: p}
	if tx.Bucket([]byte(bucketSpare)) != nil {
		if free.meta.Flags() == 0 {
			return tx.DeleteBucket([]byte(bucketSpare)) // it was copied from another file
		}
		if s.bucket, err = p.bucket(tx, bucketSpare); err != nil {
			return err
		}
	}
	switch have := free.list.FreeCount(); {
	case have > mostFree && have > keptFree+3*need:
		return s.putAside(keptFree + need)
	case have < leastFree+need && s.bucket != nil:
		return s.takeBack(leastFree + need - have)
	}
	return nil
}

// putAside makes all but the first pages of the list spare.
func (s *spares) putAside(keep int) error {
	numbers := s.numbers()
	for entry := range slices.Chunk(numbers[keep:], spareEntry) {
		text, err := json.Marshal(entry)
		if err == nil {
			err = s.put(fmt.Appendf(nil, "%020d", entry[0]), text)
		}
		if err != nil {
			return err
		}
	}
	s.meta.SetFlags(s.meta.Flags() + uint32(len(numbers)-keep))
	call(s.init, numbers[:keep:keep])
	return nil
}

func (s *spares) put(key, text []byte) error {
	if s.bucket != nil {
		if _, err := s.bucket.tree.path(key, true); err != nil {
			return err
		}
	}
	in, err := s.tx.CreateBucketIfNotExists([]byte(bucketSpare))
	if err != nil {
		return err
	}
	return in.Put(key, text)
}

// takeBack adds at least so many spare pages to the list, if there are as many: those with the lowest numbers.
func (s *spares) takeBack(need int) error {
	var keys [][]byte
	var back []uint64
	cursor := s.bucket.cursor()
	key, text, err := cursor.seek(nil)
	for ; err == nil && key != nil && len(back) < need; key, text, err = cursor.next() {
		var entry []uint64
		if err := json.Unmarshal(text, &entry); err != nil {
			return fmt.Errorf("%w: the spare pages %q: %w", ErrCorrupt, key, err)
		}
		keys, back = append(keys, slices.Clone(key)), append(back, entry...)
	}
	if err != nil || len(keys) == 0 {
		return err
	}
	for _, key := range keys {
		if _, err := s.bucket.tree.path(key, true); err != nil {
			return err
		}
		if err := s.bucket.in.Delete(key); err != nil {
			return err
		}
	}
	numbers := append(s.numbers(), back...)
	slices.Sort(numbers)
	for i, number := range numbers {
		if number < 2 || number >= s.pages.count || i > 0 && number == numbers[i-1] {
			return fmt.Errorf("%w: page %d of %d is spare, or free twice", ErrCorrupt, number, s.pages.count)
		}
	}
	if uint64(s.meta.Flags()) < uint64(len(back)) {
		return fmt.Errorf("%w: %d pages are spare, want %d", ErrCorrupt, len(back), s.meta.Flags())
	}
	s.meta.SetFlags(s.meta.Flags() - uint32(len(back)))
	call(s.init, numbers)
	return nil
}
