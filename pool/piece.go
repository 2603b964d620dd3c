package pool

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/store"
)

// A head must stay small, however fragmented the free space is, because every commit writes it. So a space whose encoding
// is small stands in the head as one piece. A larger one is cut into pieces, each in a record of its own that is
// never changed; the head says where each starts and has the changes since it was written. When these come to too many bytes, the
// piece with the most of them is replaced, in the same commit, by a new one.
const (
	inlineBytes   = 768       // the largest encoding that stands in the head
	minPieceBytes = 32 << 10  // at this size a piece is cut …
	maxPieceBytes = 512 << 10 // … or in a very large space at a sixteenth of it, but never above this one
	minChanges    = 1 << 10   // bytes of changes in a head that make a piece be replaced …
	maxChanges    = 8 << 10   // … or in a larger space a 64th of it, up to this
)

// piece is the free space from one address up to the next piece.
type piece struct {
	From    netip.Addr `json:"from"`
	ID      string     `json:"id,omitempty"`      // the name of the record with the encoding; empty if it is Free
	Size    int        `json:"size,omitempty"`    // the length of the encoding, if it stands in a record
	Free    []byte     `json:"free,omitempty"`    // the encoding: see allocator.AppendFree
	Changes []byte     `json:"changes,omitempty"` // since the encoding was made: see appendChange
}

// pieceData is what the record of a piece has as its data.
type pieceData struct {
	Free []byte `json:"free"`
}

// rangeOf is the range of pieces[i].
func (s *space) rangeOf(pieces []piece, i int) netipx.IPRange {
	last := wholeOf(s.family).To()
	if i+1 < len(pieces) {
		last = pieces[i+1].From.Prev()
	}
	return netipx.IPRangeFrom(pieces[i].From, last)
}

// draft collects the writes of one commit to one pool.
type draft struct {
	pool   string
	base   int64 // the revision that is replaced: no two commits that succeed have the same
	ids    int
	parent *Parent
	writes []store.Write
}

// newID returns a name that no piece of the pool ever had.
func (d *draft) newID() string {
	d.ids++
	return strconv.FormatInt(d.base, 36) + "." + strconv.Itoa(d.ids)
}

func (d *draft) key(id string) store.Key {
	return store.Key{Kind: store.KindSpace, Pool: d.pool, Name: id}
}

// nextPieces returns the pieces for a head in which changes, which are done in s.free, have come to the committed ones.
func (s *space) nextPieces(changes []change, d *draft) ([]piece, error) {
	if len(s.pieces) == 0 || s.pieces[0].ID == "" {
		return s.inlineOrCut(d)
	}
	pieces := slices.Clone(s.pieces)
	for _, c := range changes {
		s.addChange(pieces, c)
	}
	size, changed, heaviest := 0, 0, 0
	for i, p := range pieces {
		size += p.Size
		changed += len(p.Changes)
		if len(p.Changes) > len(pieces[heaviest].Changes) {
			heaviest = i
		}
	}
	if changed <= min(max(size/64, minChanges), maxChanges) {
		return pieces, nil
	}
	return s.replace(pieces, heaviest, pieceBytes(size), d)
}

func pieceBytes(size int) int {
	return min(max(size/16, minPieceBytes), maxPieceBytes)
}

// inlineOrCut encodes the whole space, as one piece in the head if that is small enough.
func (s *space) inlineOrCut(d *draft) ([]piece, error) {
	whole := wholeOf(s.family)
	encoded, rest, err := s.free.AppendFree(nil, whole, inlineBytes)
	if err != nil {
		return nil, err
	}
	if !rest.IsValid() && len(encoded) <= 2*inlineBytes {
		return []piece{{From: whole.From(), Free: encoded}}, nil
	}
	// The size is not known yet: cut as for a small space, and the first pieces to be replaced grow.
	return s.cut(whole, minPieceBytes, d)
}

// replace replaces pieces[i], and its neighbours as long as together they are small, by new ones.
func (s *space) replace(pieces []piece, i, limit int, d *draft) ([]piece, error) {
	from, to, size := i, i+1, pieces[i].Size
	for to < len(pieces) && size+pieces[to].Size <= limit/2 {
		size += pieces[to].Size
		to++
	}
	for from > 0 && size+pieces[from-1].Size <= limit/2 {
		from--
		size += pieces[from].Size
	}
	for _, old := range pieces[from:to] {
		d.writes = append(d.writes, store.Write{Op: store.Delete, Record: store.Record{Key: d.key(old.ID)}})
	}
	if from == 0 && to == len(pieces) {
		return s.inlineOrCut(d)
	}
	span := netipx.IPRangeFrom(pieces[from].From, s.rangeOf(pieces, to-1).To())
	cut, err := s.cut(span, limit, d)
	if err != nil {
		return nil, err
	}
	return slices.Replace(pieces, from, to, cut...), nil
}

// cut encodes a range into pieces in records of their own.
func (s *space) cut(span netipx.IPRange, limit int, d *draft) ([]piece, error) {
	var pieces []piece
	for span.IsValid() {
		encoded, rest, err := s.free.AppendFree(nil, span, limit)
		if err != nil {
			return nil, err
		}
		data, err := json.Marshal(pieceData{encoded})
		if err != nil {
			return nil, err
		}
		p := piece{From: span.From(), ID: d.newID(), Size: len(encoded)}
		pieces = append(pieces, p)
		d.writes = append(d.writes, store.Write{Op: store.Create, Record: store.Record{Key: d.key(p.ID), State: "free space", Data: data}})
		span = rest
	}
	return pieces, nil
}

// addChange appends a change to the pieces that it falls into: nearly always one.
func (s *space) addChange(pieces []piece, c change) {
	first, last := c.prefix.Addr(), netipx.PrefixLastIP(c.prefix)
	i, found := slices.BinarySearchFunc(pieces, first, func(p piece, addr netip.Addr) int { return p.From.Compare(addr) })
	if !found {
		i--
	}
	for ; i < len(pieces) && pieces[i].From.Compare(last) <= 0; i++ {
		span := s.rangeOf(pieces, i)
		if span.From().Less(first) {
			span = netipx.IPRangeFrom(first, span.To())
		}
		if last.Less(span.To()) {
			span = netipx.IPRangeFrom(span.From(), last)
		}
		for _, p := range span.Prefixes() {
			pieces[i].Changes = appendChange(pieces[i].Changes, pieces[i].From, p, c.free)
		}
	}
}

// appendChange appends a change in 2 to 18 bytes: the number of bytes of the address that follow, with the highest bit set if
// the prefix became free; the prefix length; and the address, without the leading bytes that it shares with from.
func appendChange(b []byte, from netip.Addr, p netip.Prefix, free bool) []byte {
	base, addr := from.As16(), p.Addr().As16()
	shared := 0
	for shared < 16 && base[shared] == addr[shared] {
		shared++
	}
	head := byte(16 - shared)
	if free {
		head |= 0x80
	}
	return append(append(b, head, byte(p.Bits())), addr[shared:]...)
}

// nextChange reads the change at the start of b, which is not empty.
func nextChange(from netip.Addr, b []byte) (p netip.Prefix, free bool, rest []byte, err error) {
	n := int(b[0] & 0x7f)
	if n > 16 || len(b) < 2+n {
		return p, false, nil, fmt.Errorf("%w: the changes from %v on are cut short", ErrCorrupt, from)
	}
	addr := from.As16()
	copy(addr[16-n:], b[2:2+n])
	ip := netip.AddrFrom16(addr)
	if from.Is4() {
		ip = ip.Unmap()
	}
	if p = netip.PrefixFrom(ip, int(b[1])); !p.IsValid() {
		return p, false, nil, fmt.Errorf("%w: the changes from %v on have no valid prefix", ErrCorrupt, from)
	}
	return p, b[0]&0x80 != 0, b[2+n:], nil
}
