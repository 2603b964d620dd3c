package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// This file checks a file before bbolt uses it. bbolt trusts the numbers in a page: a wrong size of a value makes it
// ask for gigabytes, a wrong page number makes it recurse without end, and a page that is both free and in use makes
// it overwrite records.

// The layout of bbolt's pages. Numbers are in the byte order of the machine.
const (
	pageHeader = 16 // page number, kind, count of elements, pages that follow
	metaSize   = 64
	metaMagic  = 0xED0CDAED
	metaFormat = 2

	kindBranch = 1
	kindLeaf   = 2
	kindFree   = 16

	elementSize  = 16
	bucketHeader = 16 // number of the root page, sequence
	flagBucket   = 1
	manyFree     = 0xFFFF // the count of free pages is the first of the numbers
	noFreePages  = ^uint64(0)

	minPageSize, maxPageSize = 1 << 10, 1 << 24
)

var native = binary.NativeEndian

// meta is the root of everything in a file. There are two of them, and the newest one that is whole counts.
type meta struct {
	pageSize, root, free, pages, id uint64
}

// readMeta returns the meta in the page that begins at the offset, if there is a whole one.
func readMeta(file io.ReaderAt, offset int64) (m meta, ok bool) {
	var page [pageHeader + metaSize]byte
	if _, err := file.ReadAt(page[:], offset); err != nil {
		return m, false
	}
	b := page[pageHeader:]
	sum := fnv.New64a()
	sum.Write(b[:metaSize-8])
	m = meta{
		pageSize: uint64(native.Uint32(b[8:])), root: native.Uint64(b[16:]), free: native.Uint64(b[32:]),
		pages: native.Uint64(b[40:]), id: native.Uint64(b[48:]),
	}
	return m, native.Uint32(b) == metaMagic && native.Uint32(b[4:]) == metaFormat &&
		native.Uint64(b[metaSize-8:]) == sum.Sum64() && m.pageSize >= minPageSize && m.pageSize <= maxPageSize
}

// newestMeta returns the meta that bbolt would use. Without the first one, the size of a page is not known.
func newestMeta(file io.ReaderAt) (meta, bool) {
	first, ok := readMeta(file, 0)
	if ok {
		if second, ok := readMeta(file, int64(first.pageSize)); ok && second.id > first.id {
			return second, true
		}
		return first, true
	}
	for size := int64(minPageSize); size <= maxPageSize; size *= 2 {
		if m, ok := readMeta(file, size); ok {
			return m, true
		}
	}
	return meta{}, false
}

// inspect returns an error that wraps [ErrCorrupt] if the pages of the file do not make sense: a page that the file
// does not have, or that has two uses; an element that does not lie in its page, or keys out of order. It finds most
// damage of this kind, but not what has changed within a key or a value. A file without a whole meta is left to bbolt
// to refuse.
//
// Cost: O(pages in use), which it reads, and a byte of memory for each page. The memory is bounded by the size of the
// file, whatever is in it.
func inspect(file *os.File) error {
	m, ok := newestMeta(file)
	if !ok {
		return nil
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if size := uint64(info.Size()); m.pages > size/m.pageSize {
		return fmt.Errorf("%w: it has %d bytes, want at least %d pages of %d bytes", ErrCorrupt, size, m.pages, m.pageSize)
	}
	in := &inspection{file: file, pageSize: m.pageSize, used: make([]bool, m.pages), todo: []subtree{{page: m.root}}}
	for len(in.todo) > 0 {
		next := in.todo[len(in.todo)-1]
		in.todo = in.todo[:len(in.todo)-1]
		if err := in.subtree(next); err != nil {
			return fmt.Errorf("page %d: %w", next.page, err)
		}
	}
	if m.free == noFreePages {
		return nil
	}
	if err := in.freePages(m.free); err != nil {
		return fmt.Errorf("page %d: %w", m.free, err)
	}
	return nil
}

// inspection is the state of inspect.
type inspection struct {
	file     io.ReaderAt
	pageSize uint64
	used     []bool // by the number of the page
	todo     []subtree
	buffer   []byte
}

// subtree is a page, and what its keys must be: at least low, and less than high unless that is nil.
type subtree struct {
	page      uint64
	low, high []byte
}

// claim notes that n pages from page first on are in use, or free.
func (in *inspection) claim(first, n uint64) error {
	all := uint64(len(in.used))
	if first < 2 || first >= all || n > all-first {
		return fmt.Errorf("%w: %d pages from page %d on, the pages are 2 to %d", ErrCorrupt, n, first, int64(all)-1)
	}
	for i := first; i < first+n; i++ {
		if in.used[i] {
			return fmt.Errorf("%w: page %d has two uses", ErrCorrupt, i)
		}
		in.used[i] = true
	}
	return nil
}

// read returns a page and those that continue it, until the next call.
func (in *inspection) read(page uint64) ([]byte, error) {
	if err := in.claim(page, 1); err != nil {
		return nil, err
	}
	if err := in.fill(page, 1); err != nil {
		return nil, err
	}
	if got := native.Uint64(in.buffer); got != page {
		return nil, fmt.Errorf("%w: it says that it is page %d", ErrCorrupt, got)
	}
	more := uint64(native.Uint32(in.buffer[12:]))
	if more == 0 {
		return in.buffer, nil
	}
	if err := in.claim(page+1, more); err != nil {
		return nil, err
	}
	return in.buffer, in.fill(page, 1+more)
}

// fill reads n pages into the buffer.
func (in *inspection) fill(page, n uint64) error {
	size := n * in.pageSize
	if uint64(cap(in.buffer)) < size {
		in.buffer = make([]byte, size)
	}
	in.buffer = in.buffer[:size]
	_, err := in.file.ReadAt(in.buffer, int64(page*in.pageSize))
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: the file ends in it", ErrCorrupt)
	}
	return err
}

// subtree checks a page of a tree, and adds those below it to what is to be done.
func (in *inspection) subtree(s subtree) error {
	page, err := in.read(s.page)
	if err != nil {
		return err
	}
	return in.elements(page, s.low, s.high)
}

// elements checks the elements of a page, which may be one within a value.
func (in *inspection) elements(page, low, high []byte) error {
	kind, count := native.Uint16(page[8:]), uint64(native.Uint16(page[10:]))
	end := pageHeader + count*elementSize // of what has been checked: the data follow without gaps
	switch {
	case kind != kindBranch && kind != kindLeaf:
		return fmt.Errorf("%w: a page of kind %d in a tree", ErrCorrupt, kind)
	case kind == kindBranch && count == 0:
		return fmt.Errorf("%w: a branch of the tree has nothing below it", ErrCorrupt)
	case end > uint64(len(page)):
		return fmt.Errorf("%w: %d elements in %d bytes", ErrCorrupt, count, len(page))
	}
	first := len(in.todo)
	for i := range count {
		e := elementAt(page, kind, pageHeader+i*elementSize)
		if e.begin != end || e.keySize == 0 || e.keySize+e.valueSize > uint64(len(page))-end {
			return fmt.Errorf("%w: element %d has %d and %d bytes at %d, want them at %d of %d",
				ErrCorrupt, i, e.keySize, e.valueSize, e.begin, end, len(page))
		}
		key, value := page[end:end+e.keySize], page[end+e.keySize:end+e.keySize+e.valueSize]
		end += e.keySize + e.valueSize
		if !inOrder(low, key, high, i == 0) {
			return fmt.Errorf("%w: the key of element %d is out of order", ErrCorrupt, i)
		}
		low = key
		switch {
		case kind == kindBranch:
			in.below(first, subtree{e.child, bytes.Clone(key), high})
		case e.flags == flagBucket:
			if err := in.bucket(value); err != nil {
				return err
			}
		case e.flags != 0:
			return fmt.Errorf("%w: element %d has the unknown flags %#x", ErrCorrupt, i, e.flags)
		}
	}
	return nil
}

// inOrder reports whether key is greater than low, or at least low if it is the first of its page, and less than high,
// if there is a high.
func inOrder(low, key, high []byte, first bool) bool {
	order := bytes.Compare(low, key)
	return (order < 0 || order == 0 && first) && (high == nil || bytes.Compare(key, high) < 0)
}

// below adds a page below a branch to what is to be done. Those of this branch begin at first.
func (in *inspection) below(first int, s subtree) {
	if last := len(in.todo); last > first {
		in.todo[last-1].high = s.low
	}
	in.todo = append(in.todo, s)
}

// element says where an element's key and value are: value after key, from begin on in the page.
type element struct {
	begin, keySize, valueSize uint64
	flags                     uint32 // of a leaf
	child                     uint64 // of a branch: a page
}

func elementAt(page []byte, kind uint16, at uint64) element {
	b := page[at:]
	if kind == kindBranch {
		return element{
			begin: at + uint64(native.Uint32(b)), keySize: uint64(native.Uint32(b[4:])), child: native.Uint64(b[8:]),
		}
	}
	return element{
		flags: native.Uint32(b), begin: at + uint64(native.Uint32(b[4:])),
		keySize: uint64(native.Uint32(b[8:])), valueSize: uint64(native.Uint32(b[12:])),
	}
}

// bucket checks a bucket: its tree has a root elsewhere, or is a page within the value.
func (in *inspection) bucket(value []byte) error {
	if len(value) < bucketHeader {
		return fmt.Errorf("%w: a bucket of %d bytes", ErrCorrupt, len(value))
	}
	if root := native.Uint64(value); root != 0 {
		in.todo = append(in.todo, subtree{page: root})
		return nil
	}
	page := value[bucketHeader:]
	if len(page) < pageHeader || native.Uint16(page[8:]) != kindLeaf {
		return fmt.Errorf("%w: a bucket of %d bytes without a page", ErrCorrupt, len(value))
	}
	return in.elements(page, nil, nil)
}

// freePages checks the list of free pages, which is on that page.
func (in *inspection) freePages(page uint64) error {
	list, err := in.read(page)
	if err != nil {
		return err
	}
	if kind := native.Uint16(list[8:]); kind != kindFree {
		return fmt.Errorf("%w: the list of free pages is a page of kind %d", ErrCorrupt, kind)
	}
	count, list := uint64(native.Uint16(list[10:])), list[pageHeader:]
	if count == manyFree {
		count, list = native.Uint64(list), list[8:]
	}
	if count > uint64(len(list)/8) {
		return fmt.Errorf("%w: %d free pages in a list of %d bytes", ErrCorrupt, count, len(list))
	}
	for i := range count {
		if err := in.claim(native.Uint64(list[8*i:]), 1); err != nil {
			return err
		}
	}
	return nil
}
