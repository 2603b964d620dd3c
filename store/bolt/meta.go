package bolt

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// The layout of bbolt's metas and of its list of free pages. Numbers are in the byte order of the machine.
const (
	metaSize    = 64
	metaMagic   = 0xED0CDAED
	metaFormat  = 2
	kindFree    = 16
	manyFree    = 0xFFFF // the count of free pages is the first of the numbers
	noFreePages = ^uint64(0)

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

// inspect checks what bbolt reads when it opens a file: the metas, the size of the file, the root page and the list of
// free pages. A file without a whole meta is left to bbolt to refuse.
//
// Cost: O(free pages), whatever is stored.
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
	if m.free == noFreePages { // bbolt would search the whole file for free pages
		return fmt.Errorf("%w: it has no list of free pages, so another program wrote it", ErrForeign)
	}
	p := &pages{file: file, pageSize: m.pageSize, count: m.pages}
	if _, err := p.read(m.root); err != nil {
		return err
	}
	list, err := p.freeList(m.free)
	if err != nil {
		return err
	}
	return p.checkFree(list)
}

// freeList is where the numbers of the free pages are.
type freeList struct {
	page, offset, count uint64
}

// freeList checks the header of the list of free pages, which is on that page. A list must not have more pages than it
// needs: bbolt frees all of them in the next commit.
func (p *pages) freeList(page uint64) (freeList, error) {
	header := make([]byte, p.pageSize)
	more, err := p.header(page, header)
	if err != nil {
		return freeList{}, err
	}
	if kind := native.Uint16(header[8:]); kind != kindFree {
		return freeList{}, fmt.Errorf("%w: page %d, the list of free pages, is of kind %d", ErrCorrupt, page, kind)
	}
	list := freeList{page, pageHeader, uint64(native.Uint16(header[10:]))}
	if list.count == manyFree {
		list.count, list.offset = native.Uint64(header[pageHeader:]), pageHeader+8
	}
	// bbolt takes the pages of the list from the list, after it has counted how many pages the list needs.
	most := list.count + more + 2
	if size := (1 + more) * p.pageSize; list.count > p.count || list.offset+8*list.count > size ||
		more*p.pageSize > pageHeader+8*most {
		return freeList{}, fmt.Errorf("%w: page %d lists %d free pages in %d bytes", ErrCorrupt, page, list.count, size)
	}
	return list, nil
}

// checkFree checks that the list has pages of the file, in order.
func (p *pages) checkFree(list freeList) error {
	numbers, err := p.part(list.page, list.offset, 8*list.count)
	if err != nil {
		return err
	}
	last := uint64(1)
	for ; len(numbers) > 0; numbers = numbers[8:] {
		n := native.Uint64(numbers)
		if n <= last || n >= p.count {
			return fmt.Errorf("%w: page %d lists the free pages %d, %d in a file of %d pages",
				ErrCorrupt, list.page, last, n, p.count)
		}
		last = n
	}
	return nil
}
