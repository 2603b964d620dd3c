package space

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"go4.org/netipx"
)

// limits say when a piece is cut, and when it is replaced.
type limits struct {
	inline                 int // bytes of the largest encoding that stands in the head
	minPiece, maxPiece     int // bytes at which a piece is cut: a 16th of the space, within these
	minChanges, maxChanges int // bytes of changes that make a piece be replaced: a 64th of the space, within these
}

var defaultLimits = limits{
	inline:     768,
	minPiece:   32 << 10,
	maxPiece:   512 << 10,
	minChanges: 1 << 10,
	maxChanges: 8 << 10,
}

// piece is the free space from one address up to the next piece.
type piece struct {
	From    netip.Addr `json:"from"`
	ID      string     `json:"id,omitempty"`      // of the record with the encoding; empty if it is Free
	Size    int        `json:"size,omitempty"`    // the length of the encoding, if it stands in a record
	Free    []byte     `json:"free,omitempty"`    // the encoding: see allocator.AppendFree
	Changes []byte     `json:"changes,omitempty"` // since the encoding was made: see appendChange
}

// PieceWrite is what a commit does to the record of one piece: creates it with Data or, if Data is nil, deletes
// it. A record is never changed. It is a value; copies share Data.
type PieceWrite struct {
	ID   string
	Data []byte // JSON
}

// record is the JSON in the record of a piece.
type record struct {
	Free []byte `json:"free"`
}

// decodeRecord returns the encoding in the record of a piece.
func decodeRecord(id string, records map[string][]byte) ([]byte, error) {
	data, ok := records[id]
	if !ok {
		return nil, fmt.Errorf("%w: the record of the piece %q is missing", ErrCorrupt, id)
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%w: the record of the piece %q: %w", ErrCorrupt, id, err)
	}
	return r.Free, nil
}

// draft collects what one commit writes.
type draft struct {
	limits
	base   int64 // the revision that is replaced: no two commits that succeed have the same
	ids    int
	writes []PieceWrite
}

// newID returns a name that no piece of the pool ever had.
func (d *draft) newID() string {
	d.ids++
	return strconv.FormatInt(d.base, 36) + "." + strconv.Itoa(d.ids)
}

// drop deletes the records of pieces.
func (d *draft) drop(pieces []piece) {
	for _, p := range pieces {
		if p.ID != "" {
			d.writes = append(d.writes, PieceWrite{ID: p.ID})
		}
	}
}

// spanOf is the range of pieces[i].
func (f *familySpace) spanOf(pieces []piece, i int) netipx.IPRange {
	last := f.family.all().To()
	if i+1 < len(pieces) {
		last = pieces[i+1].From.Prev()
	}
	return netipx.IPRangeFrom(pieces[i].From, last)
}

// pieceAt is the index of the piece that addr lies in.
func pieceAt(pieces []piece, addr netip.Addr) int {
	i, found := slices.BinarySearchFunc(pieces, addr, func(p piece, addr netip.Addr) int {
		return p.From.Compare(addr)
	})
	if !found {
		i--
	}
	return i
}

// nextPieces returns the pieces with which the head has what is free now: the committed ones, with what the
// journal says of the family.
func (f *familySpace) nextPieces(journal []change, d *draft) ([]piece, error) {
	isOurs := func(c change) bool { return c.family == f.family }
	switch {
	case f.rewrite || len(f.pieces) == 0:
		d.drop(f.pieces)
		return f.inlineOrCut(d)
	case !slices.ContainsFunc(journal, isOurs):
		return f.pieces, nil
	case f.pieces[0].ID == "":
		return f.inlineOrCut(d)
	}
	pieces := slices.Clone(f.pieces)
	for i := range pieces {
		pieces[i].Changes = slices.Clip(pieces[i].Changes) // so that appending never writes into the committed ones
	}
	for _, c := range journal {
		if isOurs(c) {
			f.addChange(pieces, c)
		}
	}
	return f.lighten(pieces, d)
}

// lighten replaces the piece with the most changes if all together have too many.
func (f *familySpace) lighten(pieces []piece, d *draft) ([]piece, error) {
	size, changed, heaviest := 0, 0, 0
	for i, p := range pieces {
		size += p.Size
		changed += len(p.Changes)
		if len(p.Changes) > len(pieces[heaviest].Changes) {
			heaviest = i
		}
	}
	if changed <= min(max(size/64, d.minChanges), d.maxChanges) {
		return pieces, nil
	}
	return f.replace(pieces, heaviest, min(max(size/16, d.minPiece), d.maxPiece), d)
}

// usualBytes is as many as the whole of a packed space takes.
const usualBytes = 64

// inlineOrCut encodes the whole space: as one piece in the head if that is small enough, and otherwise in pieces.
func (f *familySpace) inlineOrCut(d *draft) ([]piece, error) {
	all := f.family.all()
	encoded, rest, err := f.free.AppendFree(make([]byte, 0, usualBytes), all, d.inline)
	if err != nil {
		return nil, err
	}
	if !rest.IsValid() && len(encoded) <= 2*d.inline {
		return []piece{{From: all.From(), Free: encoded}}, nil
	}
	// The size is not known yet: cut as for a small space, and the first pieces to be replaced grow.
	return f.cut(all, d.minPiece, d)
}

// replace replaces pieces[i], and its neighbours as long as together they are small, by new ones.
func (f *familySpace) replace(pieces []piece, i, limit int, d *draft) ([]piece, error) {
	from, to, size := i, i+1, pieces[i].Size
	for to < len(pieces) && size+pieces[to].Size <= limit/2 {
		size += pieces[to].Size
		to++
	}
	for from > 0 && size+pieces[from-1].Size <= limit/2 {
		from--
		size += pieces[from].Size
	}
	d.drop(pieces[from:to])
	if from == 0 && to == len(pieces) {
		return f.inlineOrCut(d)
	}
	span := netipx.IPRangeFrom(pieces[from].From, f.spanOf(pieces, to-1).To())
	cut, err := f.cut(span, limit, d)
	if err != nil {
		return nil, err
	}
	return slices.Replace(pieces, from, to, cut...), nil
}

// cut encodes a range into pieces in records of their own.
func (f *familySpace) cut(span netipx.IPRange, limit int, d *draft) ([]piece, error) {
	var pieces []piece
	for span.IsValid() {
		encoded, rest, err := f.free.AppendFree(nil, span, limit)
		if err != nil {
			return nil, err
		}
		data, err := json.Marshal(record{encoded})
		if err != nil {
			return nil, err
		}
		p := piece{From: span.From(), ID: d.newID(), Size: len(encoded)}
		pieces = append(pieces, p)
		d.writes = append(d.writes, PieceWrite{p.ID, data})
		span = rest
	}
	return pieces, nil
}

// addChange appends a change to the pieces that it falls into: nearly always one.
func (f *familySpace) addChange(pieces []piece, c change) {
	whole := netipx.RangeOfPrefix(c.prefix)
	for i := pieceAt(pieces, whole.From()); i < len(pieces); i++ {
		part, ok := intersection(f.spanOf(pieces, i), whole)
		if !ok {
			return
		}
		p := &pieces[i]
		if part == whole {
			p.Changes = appendChange(p.Changes, p.From, c.prefix, c.free)
			return
		}
		for _, prefix := range part.Prefixes() {
			p.Changes = appendChange(p.Changes, p.From, prefix, c.free)
		}
	}
}

// known returns how many bytes of the changes of pieces[i] are in the free space already, because a committed
// piece of the same encoding has them. It is false if there is none, so that the encoding is needed.
func (f *familySpace) known(pieces []piece, i int) (int, bool) {
	p := &pieces[i]
	at := pieceAt(f.pieces, p.From)
	if f.rewrite || at < 0 {
		return 0, false
	}
	old := &f.pieces[at]
	same := old.ID == p.ID && bytes.Equal(old.Free, p.Free) && f.spanOf(f.pieces, at) == f.spanOf(pieces, i)
	return len(old.Changes), same && bytes.HasPrefix(p.Changes, old.Changes)
}

// load makes the free space what the pieces say.
func (f *familySpace) load(pieces []piece, records map[string][]byte) error {
	for i, p := range pieces {
		span := f.spanOf(pieces, i)
		done, known := f.known(pieces, i)
		if !known {
			if err := f.loadPiece(p, span, records); err != nil {
				return err
			}
			done = 0
		}
		if err := f.apply(span, p.Changes[done:]); err != nil {
			return err
		}
	}
	f.pieces = pieces
	return nil
}

// loadPiece makes the free space of one piece what it was before its changes.
func (f *familySpace) loadPiece(p piece, span netipx.IPRange, records map[string][]byte) error {
	encoded := p.Free
	if p.ID != "" {
		var err error
		if encoded, err = decodeRecord(p.ID, records); err != nil {
			return err
		}
	}
	if err := f.free.SetFree(span, encoded); err != nil {
		return fmt.Errorf("%w: the free space from %v on: %w", ErrCorrupt, p.From, err)
	}
	return nil
}
