package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"sync"

	"go.etcd.io/bbolt"
)

// This file checks pages before bbolt uses them. bbolt trusts the numbers in a page: a wrong size of a value makes it
// ask for gigabytes, and a wrong page number makes it recurse without end.

// The layout of bbolt's pages.
const (
	pageHeader = 16 // page number, kind, count of elements, pages that follow
	kindBranch = 1
	kindLeaf   = 2

	elementSize  = 16
	bucketHeader = 16 // number of the root page, sequence
	flagBucket   = 1
)

// pages reads and checks the pages of a file as of one transaction. It reads with system calls, not from mapped
// memory, so that a file that was cut off is an error and no fault. It must not be used by two goroutines at once.
type pages struct {
	file     io.ReaderAt
	pageSize uint64
	count    uint64 // of pages in the file, those beyond are not in use
	checked  map[uint64]*page
	old      *sync.Pool // of pages of earlier transactions, whose memory serves again; nil if there is none
}

// page is a checked page of a tree.
type page struct {
	kind     uint16
	elements []element
	first    []byte // of the pages that it has
	more     uint64 // pages that continue it
	used     uint64 // bytes
}

// element says what a page has under a key. The value follows the key.
type element struct {
	key       []byte
	begin     uint64 // of the key in the page
	valueSize uint64
	flags     uint32 // of a leaf
	child     uint64 // of a branch: a page
}

// pages returns the pages of the store's file as of tx. If nothing that was read from them is used after tx, the caller
// ends with recycle.
func (s *Store) pages(tx *bbolt.Tx) *pages {
	p := newPages(s.file.handle, tx)
	p.old = &s.oldPages
	return p
}

// recycle gives the memory of all pages to later transactions.
func (p *pages) recycle() {
	for _, read := range p.checked {
		p.old.Put(read)
	}
	p.checked = nil
}

// blank returns a page to read into.
func (p *pages) blank() *page {
	if p.old != nil {
		if old, ok := p.old.Get().(*page); ok {
			return old
		}
	}
	return &page{first: make([]byte, p.pageSize)}
}

// newPages returns the pages of file, which is the file of tx.
func newPages(file io.ReaderAt, tx *bbolt.Tx) *pages {
	size := uint64(tx.DB().Info().PageSize)
	return &pages{file: file, pageSize: size, count: uint64(tx.Size()) / size}
}

// header reads the first page under a number, and returns how many pages continue it.
func (p *pages) header(number uint64, first []byte) (more uint64, err error) {
	if number < 2 || number >= p.count {
		return 0, fmt.Errorf("%w: a reference to page %d, the pages are 2 to %d", ErrCorrupt, number, p.count-1)
	}
	if err := p.readAt(first, number, 0); err != nil {
		return 0, err
	}
	more = uint64(native.Uint32(first[12:]))
	if got := native.Uint64(first); got != number {
		return 0, fmt.Errorf("%w: page %d says that it is page %d", ErrCorrupt, number, got)
	}
	if more >= p.count-number {
		return 0, fmt.Errorf("%w: page %d says that %d pages of %d continue it", ErrCorrupt, number, more, p.count)
	}
	return more, nil
}

// part reads n bytes of a page and of those that continue it. The caller has checked that these lie in the file.
func (p *pages) part(number, at, n uint64) ([]byte, error) {
	b := make([]byte, n)
	return b, p.readAt(b, number, at)
}

func (p *pages) readAt(b []byte, number, at uint64) error {
	_, err := p.file.ReadAt(b, int64(number*p.pageSize+at))
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: the file ends in page %d", ErrCorrupt, number)
	}
	return err
}

// read returns a page of a tree. Every key and value lies in it, and the keys are in order. It reads each page once,
// and of those that continue it only the keys.
func (p *pages) read(number uint64) (*page, error) {
	if known := p.checked[number]; known != nil {
		return known, nil
	}
	read := p.blank()
	more, err := p.header(number, read.first)
	if err != nil {
		return nil, err
	}
	size := (1 + more) * p.pageSize
	end, err := read.parse(size, func(at, n uint64) ([]byte, error) {
		if at+n <= p.pageSize {
			return read.first[at : at+n], nil
		}
		return p.part(number, at, n)
	})
	if err == nil && more*p.pageSize > end {
		err = fmt.Errorf("%w: it has %d bytes in use, and %d pages continue it", ErrCorrupt, end, more)
	}
	if err != nil {
		return nil, fmt.Errorf("page %d: %w", number, err)
	}
	read.more, read.used = more, end
	if p.checked == nil {
		p.checked = make(map[uint64]*page)
	}
	p.checked[number] = read
	return read, nil
}

// parse makes p the page of size bytes that part reads, and returns where the last value ends.
func (p *page) parse(size uint64, part func(at, n uint64) ([]byte, error)) (uint64, error) {
	header, err := part(0, pageHeader)
	if err != nil {
		return 0, err
	}
	p.kind = native.Uint16(header[8:])
	count := uint64(native.Uint16(header[10:]))
	end := pageHeader + count*elementSize // of what has been checked: keys and values follow without gaps
	switch {
	case p.kind != kindBranch && p.kind != kindLeaf:
		return 0, fmt.Errorf("%w: a page of kind %d in a tree", ErrCorrupt, p.kind)
	case p.kind == kindBranch && count == 0:
		return 0, fmt.Errorf("%w: a branch of the tree has nothing below it", ErrCorrupt)
	case end > size:
		return 0, fmt.Errorf("%w: %d elements in %d bytes", ErrCorrupt, count, size)
	}
	table, err := part(pageHeader, count*elementSize)
	if err != nil {
		return 0, err
	}
	p.elements = slices.Grow(p.elements[:0], int(count))[:count]
	for i := range p.elements {
		e, keySize := elementAt(p.kind, table[i*elementSize:], uint64(pageHeader+i*elementSize))
		if e.begin != end || keySize == 0 || keySize > bbolt.MaxKeySize || keySize+e.valueSize > size-end {
			return 0, fmt.Errorf("%w: element %d has %d and %d bytes at %d, want them at %d of %d",
				ErrCorrupt, i, keySize, e.valueSize, e.begin, end, size)
		}
		if e.key, err = part(end, keySize); err != nil {
			return 0, err
		}
		if i > 0 && bytes.Compare(p.elements[i-1].key, e.key) >= 0 {
			return 0, fmt.Errorf("%w: the key of element %d is out of order", ErrCorrupt, i)
		}
		end += keySize + e.valueSize
		p.elements[i] = e
	}
	return end, nil
}

// elementAt returns an element without its key, and the size of the key. It begins at that place in the page.
func elementAt(kind uint16, b []byte, at uint64) (e element, keySize uint64) {
	if kind == kindBranch {
		return element{begin: at + uint64(native.Uint32(b)), child: native.Uint64(b[8:])}, uint64(native.Uint32(b[4:]))
	}
	return element{
		flags: native.Uint32(b), begin: at + uint64(native.Uint32(b[4:])), valueSize: uint64(native.Uint32(b[12:])),
	}, uint64(native.Uint32(b[8:]))
}

// value returns the value of an element of a leaf, if it lies in the first page.
func (p *page) value(i int) ([]byte, bool) {
	e := &p.elements[i]
	begin := e.begin + uint64(len(e.key))
	end := begin + e.valueSize
	if end > uint64(len(p.first)) {
		return nil, false
	}
	return p.first[begin:end:end], true
}

// find returns the element that key is in or below: the last that is not greater, or the first of all.
func (p *page) find(key []byte) int {
	return max(0, sort.Search(len(p.elements), func(i int) bool { return bytes.Compare(p.elements[i].key, key) > 0 })-1)
}
