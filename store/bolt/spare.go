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
	"errors"
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
	list   freeCounts
	spans  reflect.Value // the free pages: the number of the first one, and how many follow one another
	init   reflect.Value // a method: replaces the free pages
	meta   metaFlags
	setEnd reflect.Value // a method: sets which page is the first that was never used
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
	f.init, f.setEnd = list.MethodByName("Init"), meta.MethodByName("SetPgid")
	if f.spans = reflect.Indirect(list.Elem()); f.spans.Kind() != reflect.Struct {
		return f, false
	}
	f.spans = f.spans.FieldByName("forwardMap")
	return f, isSpans(f.spans) && takesPages(f.init) && takes(f.setEnd, reflect.Uint64)
}

// isSpans reports whether the value is a map from numbers to numbers.
func isSpans(v reflect.Value) bool {
	return v.Kind() == reflect.Map && v.Type().Key().Kind() == reflect.Uint64 && v.Type().Elem().Kind() == reflect.Uint64
}

// private returns the private field that an object has under the name; the zero Value if there is none or it is nil.
func private(object any, name string) reflect.Value {
	field := reflect.ValueOf(object).Elem().FieldByName(name)
	if kind := field.Kind(); kind != reflect.Interface && kind != reflect.Pointer || field.IsNil() {
		return reflect.Value{}
	}
	return reflect.NewAt(field.Type(), field.Addr().UnsafePointer()).Elem()
}

// takes reports whether the method takes one value of that kind, and returns nothing.
func takes(method reflect.Value, kind reflect.Kind) bool {
	return method.IsValid() && method.Type().NumIn() == 1 && method.Type().NumOut() == 0 &&
		method.Type().In(0).Kind() == kind
}

// takesPages reports whether the method takes the numbers of pages, and returns nothing.
func takesPages(method reflect.Value) bool {
	return takes(method, reflect.Slice) && method.Type().In(0).Elem().Kind() == reflect.Uint64
}

// call calls the method with the numbers of pages.
func call(method reflect.Value, numbers []uint64) {
	pointer := unsafe.Pointer(&numbers) //nolint:gosec // the type that the method takes has the same layout
	method.Call([]reflect.Value{reflect.NewAt(method.Type().In(0), pointer).Elem()})
}

// numbers returns the free pages in order. Those that somebody who reads may still see (that are pending) are not free.
func (f freePages) numbers() []uint64 {
	numbers := make([]uint64, 0, f.list.FreeCount())
	for span := f.spans.MapRange(); span.Next(); {
		for i := range span.Value().Uint() {
			numbers = append(numbers, span.Key().Uint()+i)
		}
	}
	slices.Sort(numbers)
	return numbers
}

// demand is what a transaction needs of the free pages.
type demand struct {
	pages int    // how many it may write
	span  int    // how many of these in a row
	below uint64 // it leaves pages from this number on alone, as far as there are others
}

// spares are the free pages of a file in a transaction that writes, and what is to become of them.
type spares struct {
	freePages
	tx     *bbolt.Tx
	pages  *pages
	bucket *bucket // nil if there is none yet

	listed []uint64 // what bbolt's list shall have
	aside  []uint64 // what shall be in new entries of the bucket
	taken  [][]byte // the entries that shall be deleted
	change int      // by how many pages more shall be spare
}

// spares returns the free pages for a transaction, nil if this bbolt has no list that is known here.
func (p *pages) spares(tx *bbolt.Tx) (s *spares, err error) {
	free, ok := freePagesOf(tx)
	if !ok {
		return nil, nil
	}
	s = &spares{freePages: free, tx: tx, pages: p}
	if tx.Bucket([]byte(bucketSpare)) != nil {
		if free.meta.Flags() == 0 { // it was copied from another file
			return nil, tx.DeleteBucket([]byte(bucketSpare))
		}
		s.bucket, err = p.bucket(tx, bucketSpare)
	}
	return s, err
}

// balance sees to it that bbolt's list has enough free pages for the transaction, and not many more. This must be the
// last thing in the transaction.
func (p *pages) balance(tx *bbolt.Tx, d demand) error {
	s, err := p.spares(tx)
	if s == nil || err != nil {
		return err
	}
	if n := s.list.FreeCount(); d.below == anyPage && d.span <= 1 && n >= leastFree+d.pages && n <= mostFree {
		return nil // there is nothing to choose
	}
	if err := s.choose(d); err != nil || len(s.taken) == 0 && len(s.aside) == 0 {
		return err
	}
	return s.apply()
}

// choose decides which pages the list shall have. It changes nothing.
func (s *spares) choose(d demand) error {
	s.listed = s.numbers()
	least := leastFree + d.pages
	if low := s.below(d); s.bucket != nil && (len(low) < least || spanIn(low, d.span) < 0) {
		if err := s.takeBack(least, d); err != nil {
			return err
		}
	}
	keep, low := len(s.listed), s.below(d)
	switch {
	case len(low) > mostFree && len(low) > keptFree+3*d.pages:
		keep = keptFree + d.pages
	case len(low) >= least:
		keep = len(low)
	default:
		keep = min(keep, keptFree+d.pages)
	}
	if keep == len(s.listed) {
		return nil
	}
	var span []uint64
	s.listed, s.aside = s.listed[:keep:keep], s.listed[keep:]
	at := spanIn(low, d.span)
	if at < 0 {
		at = spanIn(append(s.listed, s.aside...), d.span)
	}
	if at >= 0 && at+d.span > keep {
		first := max(at-keep, 0)
		span, s.aside = s.aside[first:at-keep+d.span], slices.Delete(slices.Clone(s.aside), first, at-keep+d.span)
	}
	s.listed = append(s.listed, span...)
	s.change += len(s.aside)
	return nil
}

// below returns those of the list that the transaction may use without having to.
func (s *spares) below(d demand) []uint64 {
	n, _ := slices.BinarySearch(s.listed, d.below)
	return s.listed[:n]
}

// spanIn returns where n numbers follow one another without a gap, -1 if they nowhere do.
func spanIn(numbers []uint64, n int) int {
	first := 0
	for i := range numbers {
		if i > 0 && numbers[i] != numbers[i-1]+1 {
			first = i
		}
		if i-first+1 >= n {
			return first
		}
	}
	if n == 0 {
		return 0
	}
	return -1
}

// spareSearch is how many entries are looked at for pages in a row.
const spareSearch = 64

// takeBack adds spare pages to the list, if there are any that the transaction may use: those with the lowest numbers,
// until it has so many, and an entry with as many in a row as are needed. A row beyond d.below is better than none,
// because without one the file grows.
func (s *spares) takeBack(least int, d demand) error {
	low := s.below(d)
	lack, span, row := least-len(low), spanIn(low, d.span) >= 0, spanIn(s.listed, d.span) >= 0
	seen := 0
	err := s.each(func(key []byte, entry []uint64) (more bool) {
		n, _ := slices.BinarySearch(entry, d.below)
		if n == 0 {
			lack = least - len(s.listed)
		}
		fits := !span && spanIn(entry[:n], d.span) >= 0
		if fits || lack > 0 || !row && spanIn(entry, d.span) >= 0 {
			s.taken, s.listed = append(s.taken, slices.Clone(key)), append(s.listed, entry...)
			s.change -= len(entry)
			lack, span, row = lack-max(n, 1), span || fits, row || spanIn(entry, d.span) >= 0
		}
		seen++
		return lack > 0 || (!row || !span && n > 0) && seen < spareSearch
	})
	if err != nil {
		return err
	}
	slices.Sort(s.listed)
	return s.check(s.listed)
}

// check checks the numbers of free pages, which are in order.
func (s *spares) check(numbers []uint64) error {
	for i, number := range numbers {
		if number < 2 || number >= s.pages.count || i > 0 && number == numbers[i-1] {
			return fmt.Errorf("%w: page %d of %d is spare, or free twice", ErrCorrupt, number, s.pages.count)
		}
	}
	return nil
}

// each calls do for the entries of the bucket, as long as it returns true.
func (s *spares) each(do func(key []byte, entry []uint64) (more bool)) error {
	cursor := s.bucket.cursor()
	key, text, err := cursor.seek(nil)
	for ; err == nil && key != nil; key, text, err = cursor.next() {
		var entry []uint64
		if err := json.Unmarshal(text, &entry); err != nil || len(entry) == 0 {
			return fmt.Errorf("%w: the spare pages %q: %.40q", ErrCorrupt, key, text)
		}
		if !do(key, entry) {
			return nil
		}
	}
	return err
}

// apply does what was chosen. This must be the last thing in the transaction, because what it does to the list is not
// undone if the transaction is rolled back before bbolt commits it.
func (s *spares) apply() error {
	for _, key := range s.taken {
		if _, err := s.bucket.tree.path(key, true); err != nil {
			return err
		}
		if err := s.bucket.in.Delete(key); err != nil {
			return err
		}
	}
	for entry := range slices.Chunk(s.aside, spareEntry) {
		text, err := json.Marshal(entry)
		if err == nil {
			err = s.put(fmt.Appendf(nil, "%020d", entry[0]), text)
		}
		if err != nil {
			return err
		}
	}
	spare := int64(s.meta.Flags()) + int64(s.change)
	if spare < 0 {
		return fmt.Errorf("%w: %d pages are spare, and %d of them are taken", ErrCorrupt, s.meta.Flags(), -s.change)
	}
	s.meta.SetFlags(uint32(spare))
	call(s.init, s.listed)
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

// cut takes the free pages at the end out of the file, as far as bbolt goes: the file keeps its size. It replaces
// balance in its transaction.
func (s *spares) cut() error {
	s.listed = s.numbers()
	free := make([]bool, s.pages.count)
	for _, n := range s.listed {
		free[n] = true
	}
	var entries [][]uint64
	var keys [][]byte
	if s.bucket != nil {
		var bad error
		err := s.each(func(key []byte, entry []uint64) bool {
			if bad = s.check(entry); bad != nil {
				return false
			}
			for _, n := range entry {
				free[n] = true
			}
			keys, entries = append(keys, slices.Clone(key)), append(entries, entry)
			return true
		})
		if err = errors.Join(bad, err); err != nil {
			return err
		}
	}
	end := len(free)
	for free[end-1] { // the metas are not free
		end--
	}
	n, _ := slices.BinarySearch(s.listed, uint64(end))
	if end == len(free) || n == 0 { // bbolt cannot be given an empty list
		return nil
	}
	s.listed = s.listed[:n]
	for i, entry := range entries {
		if n, _ := slices.BinarySearch(entry, uint64(end)); n < len(entry) {
			s.taken, s.aside = append(s.taken, keys[i]), append(s.aside, entry[:n]...)
			s.change -= len(entry) - n
		}
	}
	slices.Sort(s.aside)
	if err := s.apply(); err != nil {
		return err
	}
	s.setEnd.Call([]reflect.Value{reflect.ValueOf(uint64(end)).Convert(s.setEnd.Type().In(0))})
	return nil
}
