package allocator

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/internal/sentinel"
)

// The encoding, version 1. Numbers are little-endian base-128 varints of up to 128 bits.
//
// An allocator: the byte 1, the byte 4 or 6, the number of ranges of the set and, for each, the distance from the end
// of the one before (from 0) and the length less one; then its free addresses from the lowest address of the family to
// the highest; then the CRC-32C of all that, in 4 bytes.
//
// The free addresses of a range: items, each a distance from the end of the one before (from the start of the range)
// whose first byte has the kind of the item in its lowest bit, and
//   - kind 0, a run: the number of free addresses less one;
//   - kind 1, words: the number of words less one in a byte, then the words, in 8 bytes each, little-endian, the lowest
//     address in the lowest bit. They start at a multiple of 64.
//
// What lies between items is taken. Fragmented space so costs a bit an address, and packed space a few bytes a run.

const (
	encodingVersion = 1
	pageOrder       = 12
	// A word becomes runs if it has fewer free runs than this, when there is no item of words to append to, and when
	// there is one: a run takes about two bytes and a word eight, and an item of words starts with two or three.
	runsToOpenWords   = 5
	runsToExtendWords = 3
)

// AppendBinary appends an encoding of the allocator, which includes its set and its free addresses, to b, and returns
// the extended slice. It implements [encoding.BinaryAppender]. The encoding takes about one bit for each address where
// free and taken addresses alternate, and two to four bytes for each free range elsewhere.
//
// Errors: [ErrInvalid] for the zero Allocator.
//
// Cost: O(bytes appended + nodes), and memory for the bytes.
func (a *Allocator) AppendBinary(b []byte) ([]byte, error) {
	if a.isZero() {
		return b, fmt.Errorf("%w: the zero Allocator cannot be encoded; use New", ErrInvalid)
	}
	start := len(b)
	b = append(b, encodingVersion, 6)
	if a.is4 {
		b[start+1] = 4
	}
	b = binary.AppendUvarint(b, uint64(len(a.universe)))
	var pos uint128
	for _, s := range a.universe {
		b = appendUvarint(b, s.first.sub(pos))
		b = appendUvarint(b, s.last.sub(s.first))
		pos = s.last.next()
	}
	b, _, _ = a.appendFree(b, span{uint128{}, a.highest()}, 0)
	return appendChecksum(b, start), nil
}

// MarshalBinary returns what [Allocator.AppendBinary] appends. It implements [encoding.BinaryMarshaler].
func (a *Allocator) MarshalBinary() ([]byte, error) {
	const fewRanges = 128
	return a.AppendBinary(make([]byte, 0, fewRanges+8*len(a.tree.slab)))
}

// Decode returns the allocator that [Allocator.AppendBinary] encoded as b.
//
// Errors: [ErrCorrupt] if b is not an encoding, for example because it is truncated or was changed; [ErrNewerFormat].
//
// Cost: O(len(b)), and memory for the allocator.
func Decode(b []byte) (*Allocator, error) {
	b, err := checked(b)
	if err != nil {
		return nil, err
	}
	if len(b) > 0 {
		if err := sentinel.NewerFormat("the encoding", int(b[0]), encodingVersion); err != nil {
			return nil, err
		}
	}
	if len(b) < 2 || b[0] != encodingVersion || b[1] != 4 && b[1] != 6 {
		return nil, fmt.Errorf("%w: want an encoding of version %d", ErrCorrupt, encodingVersion)
	}
	a := &Allocator{is4: b[1] == 4, tree: newTree(b[1] == 4)}
	b, err = a.decodeUniverse(b[2:])
	if err != nil {
		return nil, err
	}
	return a, a.decodeFree(span{uint128{}, a.highest()}, b)
}

func (a *Allocator) decodeUniverse(b []byte) ([]byte, error) {
	count, n := binary.Uvarint(b)
	if n <= 0 || count > uint64(len(b)) {
		return nil, fmt.Errorf("%w: the number of ranges in the set is invalid", ErrCorrupt)
	}
	b = b[n:]
	var pos uint128
	for range count {
		gap, gapBytes := uvarint(b)
		length, lengthBytes := uvarint(b[gapBytes:])
		first := pos.add(gap)
		last := first.add(length)
		// Ranges that touch would be one, so all but the first lie at least one address apart.
		apart := len(a.universe) == 0 || gap != (uint128{}) && pos != (uint128{})
		if gapBytes == 0 || lengthBytes == 0 || !apart || first.less(pos) || last.less(first) || a.highest().less(last) {
			return nil, fmt.Errorf("%w: the ranges of the set are out of order", ErrCorrupt)
		}
		b = b[gapBytes+lengthBytes:]
		a.universe = append(a.universe, span{first, last})
		a.total = a.total.Add(cidr.RangeSize(a.rangeOf(span{first, last})))
		pos = last.next()
	}
	return b, nil
}

// AppendFree appends an encoding of the free addresses in r to b, and returns the extended slice. The set is not part
// of the encoding. It is for a program that stores a large allocator in pieces, and writes only the pieces that change.
//
// It stops soon after limit bytes, and also returns the rest of r, which is to be passed to the next call. The rest is
// the zero range if nothing is left. It starts at a multiple of 4,096 addresses, so the encoding may exceed the limit
// by up to 520 bytes and a checksum of 4. A limit of 0 or less means no limit.
//
// Errors: [ErrInvalid] for a range that is invalid or of the other family.
//
// Cost: O(bytes appended + nodes in r), and memory for the bytes.
func (a *Allocator) AppendFree(b []byte, r netipx.IPRange, limit int) ([]byte, netipx.IPRange, error) {
	if err := a.checkRange(r); err != nil {
		return b, netipx.IPRange{}, err
	}
	start := len(b)
	b, rest, more := a.appendFree(b, a.spanOf(r), limit)
	b = appendChecksum(b, start)
	if !more {
		return b, netipx.IPRange{}, nil
	}
	return b, a.rangeOf(rest), nil
}

func (a *Allocator) checkRange(r netipx.IPRange) error {
	if a.isZero() {
		return fmt.Errorf("%w: the zero Allocator has no addresses; use New", ErrInvalid)
	}
	if !r.IsValid() || r.From().Is4() != a.is4 {
		return fmt.Errorf("%w: range %v-%v: want a valid %s range", ErrInvalid, r.From(), r.To(), a.family())
	}
	return nil
}

// SetFree decodes b, which [Allocator.AppendFree] encoded for the range r. The addresses in r that were free when b was
// encoded become free, and all others in r become taken. Addresses outside r do not change.
//
// Errors, after which nothing has changed: [ErrCorrupt] if b is not such an encoding, or frees an address that is not
// in r or not in the set; [ErrInvalid] for a range that is invalid or of the other family.
//
// Cost: O(len(b) + nodes in r), and memory for what is decoded.
func (a *Allocator) SetFree(r netipx.IPRange, b []byte) error {
	if err := a.checkRange(r); err != nil {
		return err
	}
	b, err := checked(b)
	if err != nil {
		return err
	}
	return a.decodeFree(a.spanOf(r), b)
}

func (a *Allocator) decodeFree(s span, b []byte) error {
	free, err := a.verifyItems(s, b)
	if err != nil {
		return err
	}
	a.free = a.free.Sub(a.countFree(s)).Add(free)
	a.tree.paintRange(s, false)
	a.tree.slab = slices.Grow(a.tree.slab, len(b)/8)
	l := loader{tree: &a.tree, within: s}
	pos := s.first
	for len(b) > 0 {
		var it item
		it, b = nextItem(pos, b)
		l.load(it)
		pos = it.last.next()
	}
	l.flush()
	return nil
}

// verifyItems counts the free addresses in items, and checks that each lies in s and in the set.
func (a *Allocator) verifyItems(s span, b []byte) (cidr.Count, error) {
	var count cidr.Count
	pos := s.first
	for more := false; len(b) > 0; more = true {
		it, rest := nextItem(pos, b)
		if rest == nil || it.first.less(pos) || it.last.less(it.first) || s.last.less(it.last) || more && pos == (uint128{}) {
			return count, fmt.Errorf("%w: the free addresses are truncated or out of range", ErrCorrupt)
		}
		n, ok := a.countItem(it)
		if !ok {
			return count, fmt.Errorf("%w: a free address is not in the set", ErrCorrupt)
		}
		count = count.Add(n)
		pos, b = it.last.next(), rest
	}
	return count, nil
}

// countItem counts the free addresses in it. It is false if some of them are not in the set.
func (a *Allocator) countItem(it item) (cidr.Count, bool) {
	inSet := a.coversSpan(it.span)
	if it.words == nil {
		return cidr.RangeSize(a.rangeOf(it.span)), inSet
	}
	n := 0
	for i := 0; i < len(it.words); i += 8 {
		word := binary.LittleEndian.Uint64(it.words[i:])
		n += bits.OnesCount64(word)
		if !inSet && !a.coversWord(it.first.add(uint128{lo: uint64(i) * 8}), word) {
			return cidr.Count{}, false
		}
	}
	return cidr.CountOf(uint64(n)), true
}

func (a *Allocator) coversWord(base uint128, word uint64) bool {
	whole := span{base, base.last(wordOrder)}
	if a.coversSpan(whole) {
		return true
	}
	r := runs{first: whole.first, last: whole.last, free: true, yield: func(first, last uint128) bool {
		return a.coversSpan(span{first, last})
	}}
	return r.word(base, word) && r.flush()
}

// appendFree encodes what is free in s, without a checksum. The last result tells whether there is a rest.
func (a *Allocator) appendFree(b []byte, s span, limit int) ([]byte, span, bool) {
	e := encoder{b: b, within: s, pos: s.first, limit: allOnesInt}
	if limit > 0 {
		e.limit = len(b) + limit
	}
	complete := a.tree.walk(s.first, s.last, &e)
	e.flush()
	return e.b, span{e.stopped, s.last}, !complete
}

const allOnesInt = int(^uint(0) >> 1)

// encoder is the visitor that writes items.
type encoder struct {
	b       []byte
	within  span
	limit   int     // length of b from which on to stop at the next page
	pos     uint128 // end of what is in b
	stopped uint128

	open     bool // whether there is a free run that is not in b yet
	pending  span // that run
	wordsAt  int  // where in b the number of words of the last item is; 0 if that was not one of words
	wordsEnd uint128
}

// full reports whether to stop before first.
func (e *encoder) full(first uint128) bool {
	if len(e.b) < e.limit || first == e.within.first || first != first.floor(pageOrder) {
		return false
	}
	e.stopped = first
	return true
}

func (e *encoder) run(first, last uint128, free bool) bool {
	if e.full(first) {
		return false
	}
	if free {
		e.addRun(first, last)
	}
	return true
}

func (e *encoder) words(base uint128, free []uint64) bool {
	if e.full(base) {
		return false
	}
	for len(free) > 0 {
		n := e.extend(base, free)
		if n == 0 {
			e.word(base, free[0])
			n = 1
		}
		base, free = base.add(uint128{lo: uint64(n) << wordOrder}), free[n:]
	}
	return true
}

// extend appends words to the item of words that ends before them, and returns how many.
func (e *encoder) extend(base uint128, free []uint64) int {
	if e.wordsAt == 0 || e.open || e.wordsEnd != base {
		return 0
	}
	free = free[:min(len(free), math.MaxUint8-int(e.b[e.wordsAt]), e.wholeWords(base))]
	n := 0
	for ; n < len(free) && runsIn(free[n]) >= runsToExtendWords; n++ {
		e.b = binary.LittleEndian.AppendUint64(e.b, free[n])
	}
	e.b[e.wordsAt] += byte(n)
	e.endWords(base.add(uint128{lo: uint64(n) << wordOrder}))
	return n
}

// word appends a word that does not extend the last item: as a new item of words if it has many runs
// and lies within the range, else as runs.
func (e *encoder) word(base uint128, free uint64) {
	if runsIn(free) >= runsToOpenWords && !base.less(e.within.first) && e.wholeWords(base) > 0 {
		e.flush()
		e.b = appendTagged(e.b, base.sub(e.pos), 1)
		e.wordsAt = len(e.b)
		e.b = binary.LittleEndian.AppendUint64(append(e.b, 0), free)
		e.endWords(base.last(wordOrder).next())
		return
	}
	r := runs{first: e.within.first, last: e.within.last, free: true, yield: func(first, last uint128) bool {
		e.addRun(first, last)
		return true
	}}
	r.word(base, free)
	r.flush()
}

// wholeWords is how many words from base on lie in the range, at most a page of them.
func (e *encoder) wholeWords(base uint128) int {
	last := earlier(e.within.last, base.last(pageOrder))
	return int(last.sub(base).next().lo >> wordOrder)
}

func (e *encoder) endWords(end uint128) { e.wordsEnd, e.pos = end, end }

// runsIn is the number of runs of ones in a word.
func runsIn(word uint64) int { return bits.OnesCount64(word &^ (word << 1)) }

func (e *encoder) addRun(first, last uint128) {
	if e.open && e.pending.last.next() == first {
		e.pending.last = last
		return
	}
	e.flush()
	e.open, e.pending = true, span{first, last}
}

// flush writes the pending run.
func (e *encoder) flush() {
	if !e.open {
		return
	}
	e.b = appendTagged(e.b, e.pending.first.sub(e.pos), 0)
	e.b = appendUvarint(e.b, e.pending.last.sub(e.pending.first))
	e.open, e.wordsAt, e.pos = false, 0, e.pending.last.next()
}

// item is one item of an encoding. words is nil for a run.
type item struct {
	span
	words []byte
}

// nextItem reads the item at the start of b, which is not empty. The rest is nil if there is none.
func nextItem(pos uint128, b []byte) (item, []byte) {
	gap, kind, n := tagged(b)
	if n == 0 {
		return item{}, nil
	}
	first := pos.add(gap)
	b = b[n:]
	if kind == 0 {
		length, n := uvarint(b)
		if n == 0 {
			return item{}, nil
		}
		return item{span: span{first, first.add(length)}}, b[n:]
	}
	if len(b) == 0 || len(b) < 1+8*(int(b[0])+1) || first.lo&63 != 0 {
		return item{}, nil
	}
	size := 8 * (int(b[0]) + 1)
	return item{span{first, first.add(uint128{lo: uint64(size)*8 - 1})}, b[1 : 1+size]}, b[1+size:]
}

// loader frees addresses in a part of a tree in which all are taken, a page at a time.
type loader struct {
	tree   *tree
	within span
	open   bool
	page   uint128
	words  [64]uint64
}

func (l *loader) load(it item) {
	if it.words == nil {
		l.loadRun(it.first, it.last)
		return
	}
	for x, words := it.first, it.words; len(words) > 0; {
		l.turnTo(x)
		s := x.slot(wordOrder)
		for ; s < 64 && len(words) > 0; s++ {
			l.words[s] |= binary.LittleEndian.Uint64(words)
			words = words[8:]
		}
		x = x.last(pageOrder).next()
	}
}

// loadRun frees the whole pages of a run in the tree, and what is left of it at both ends in the words.
func (l *loader) loadRun(first, last uint128) {
	if first.sameBlock(last, pageOrder) {
		l.loadBits(first, last)
		return
	}
	if first != first.floor(pageOrder) {
		l.loadBits(first, first.last(pageOrder))
		first = first.last(pageOrder).next()
	}
	lastPage := last.floor(pageOrder)
	if first.less(lastPage) {
		l.tree.paintRange(span{first, lastPage.prev()}, true)
	}
	l.loadBits(lastPage, last)
}

// loadBits frees addresses of one page.
func (l *loader) loadBits(first, last uint128) {
	l.turnTo(first)
	for x := first; ; {
		end := earlier(x.last(wordOrder), last)
		l.words[x.slot(wordOrder)] |= allOnes << (x.lo & 63) & (allOnes >> (63 - end.lo&63))
		if end == last {
			return
		}
		x = end.next()
	}
}

func (l *loader) turnTo(x uint128) {
	if page := x.floor(pageOrder); !l.open || page != l.page {
		l.flush()
		l.open, l.page, l.words = true, page, [64]uint64{}
	}
}

func (l *loader) flush() {
	if !l.open {
		return
	}
	l.open = false
	if l.page.less(l.within.first) || l.within.last.less(l.page.last(pageOrder)) {
		l.flushRuns() // the page has something outside of the range, which must stay as it is
		return
	}
	l.tree.setPage(l.page, &l.words)
}

func (l *loader) flushRuns() {
	r := runs{first: l.page, last: l.page.last(pageOrder), free: true, yield: func(first, last uint128) bool {
		l.tree.paintRange(span{first, last}, true)
		return true
	}}
	for i := range l.words {
		r.word(l.page.add(uint128{lo: uint64(i) << wordOrder}), l.words[i])
	}
	r.flush()
}

// setPage gives a page, of which everything is taken, its words.
func (t *tree) setPage(page uint128, words *[64]uint64) {
	var full, mixed uint64
	for i, word := range words {
		switch word {
		case 0:
		case allOnes:
			full |= 1 << i
		default:
			mixed |= 1 << i
		}
	}
	if mixed == 0 {
		for m := full; m != 0; m &= m - 1 {
			t.paint(page.or(uint128{lo: uint64(bits.TrailingZeros64(m)) << wordOrder}), wordOrder, true)
		}
		return
	}
	// One free address makes the node, of which the rest can then be filled in.
	i := bits.TrailingZeros64(mixed)
	x := page.or(uint128{lo: uint64(i)<<wordOrder | uint64(bits.TrailingZeros64(words[i]))})
	t.paint(x, 0, true)
	depth := t.locate(x)
	nd := &t.nodes[t.path[depth]]
	largest := nd.max
	t.freeSlots(nd)
	nd.full, nd.mixed = full, mixed
	if count := bits.OnesCount64(mixed); count > 1 {
		class := uint8(bits.Len(uint(count - 1)))
		nd.slots, nd.class = t.newRun(class), class
	}
	values := t.values(nd)
	for m := mixed; m != 0; m &= m - 1 {
		values[0] = words[bits.TrailingZeros64(m)]
		values = values[1:]
	}
	nd.max = wordOrder
	t.settle(nd, nd.max, -1)
	t.ascend(depth, x, largest, maxLevels)
}

// locate fills in the path from the root to the page of x, which must exist, and returns its index.
func (t *tree) locate(x uint128) int {
	path := &t.path
	path[0] = rootNode
	for depth := 0; ; depth++ {
		nd := &t.nodes[path[depth]]
		if nd.order == wordOrder {
			return depth
		}
		path[depth+1] = edge(*t.at(nd, x.slot(nd.shift()))).node()
	}
}

func appendChecksum(b []byte, start int) []byte {
	return binary.LittleEndian.AppendUint32(b, checksum(b[start:]))
}

// checked verifies the checksum at the end of b, and returns b without it.
func checked(b []byte) ([]byte, error) {
	if len(b) < 4 {
		return nil, fmt.Errorf("%w: an encoding of %d bytes is too short", ErrCorrupt, len(b))
	}
	body := b[:len(b)-4]
	want, got := binary.LittleEndian.Uint32(b[len(b)-4:]), checksum(body)
	if want != got {
		return nil, fmt.Errorf("%w: the checksum of %d bytes is %08x, want %08x", ErrCorrupt, len(b), got, want)
	}
	return body, nil
}

func appendUvarint(b []byte, x uint128) []byte {
	for x.hi != 0 || x.lo >= 0x80 {
		b = append(b, byte(x.lo)|0x80)
		x = x.shr(7)
	}
	return append(b, byte(x.lo))
}

// uvarint returns the number at the start of b and its length in bytes; 0 if there is none or it is over 128 bits.
func uvarint(b []byte) (uint128, int) {
	var x uint128
	for i, c := range b {
		if i == 18 && c > 3 {
			return uint128{}, 0
		}
		x = x.or(uint128{lo: uint64(c & 0x7f)}.shl(uint(7 * i)))
		if c < 0x80 {
			return x, i + 1
		}
	}
	return uint128{}, 0
}

// appendTagged appends x with a tag in the lowest bit of its first byte.
func appendTagged(b []byte, x uint128, tag byte) []byte {
	first := tag | byte(x.lo&0x3f)<<1
	if x = x.shr(6); x == (uint128{}) {
		return append(b, first)
	}
	return appendUvarint(append(b, first|0x80), x)
}

func tagged(b []byte) (x uint128, tag byte, n int) {
	if len(b) == 0 {
		return uint128{}, 0, 0
	}
	x, tag = uint128{lo: uint64(b[0] >> 1 & 0x3f)}, b[0]&1
	if b[0] < 0x80 {
		return x, tag, 1
	}
	rest, n := uvarint(b[1:])
	if n == 0 || rest.bitLen() > 122 {
		return uint128{}, 0, 0
	}
	return x.or(rest.shl(6)), tag, n + 1
}
