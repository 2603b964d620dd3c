package pool

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ipalloc/ipalloc/pool/internal/space"
)

// Export writes the whole pool as JSON, indented, as of one moment; see [Snapshot.MarshalJSON]. It reads all before it
// writes, and then writes in small pieces.
//
// Errors: as for [Pool.Snapshot], and those of w. Cost: O(n log n) for n allocations, and memory for about 30 bytes,
// the owner's name and the labels of each.
func (p *Pool) Export(ctx context.Context, w io.Writer) error {
	var all packed
	var s Snapshot
	err := exclusively(ctx, func(a *attempt) error {
		return a.walk(p, func(info Info) error {
			s, all = Snapshot{Info: info, Next: p.home.state().space.Cursors()}, packed{base: info.Created}
			return nil
		}, func(h *holding) error {
			all.add(h)
			return nil
		})
	}, p)
	if err == nil {
		err = s.write(w, all.sorted())
	}
	return p.failed("export", "", err)
}

// write writes the snapshot as JSON, indented, with these allocations.
func (s *Snapshot) write(w io.Writer, allocations iter.Seq[*allocationText]) error {
	const indent, nothing = "  ", "[]\n}" // which the list, the last member, is without allocations
	head, err := json.MarshalIndent(s.header(), "", indent)
	if err != nil {
		return err
	}
	text := bufio.NewWriter(w)
	begin, _ := bytes.CutSuffix(head, []byte(nothing))
	if _, err := text.Write(begin); err != nil {
		return err
	}
	var b []byte
	before, end := "[\n"+indent+indent, nothing+"\n"
	for a := range allocations {
		if b, err = a.appendIndented(append(b[:0], before...)); err != nil {
			return err
		}
		if _, err := text.Write(b); err != nil {
			return err
		}
		before, end = ",\n"+indent+indent, "\n"+indent+"]\n}\n"
	}
	if _, err := text.WriteString(end); err != nil {
		return err
	}
	return text.Flush()
}

// appendIndented appends what [json.MarshalIndent] makes of a in a list of an object.
func (a *allocationText) appendIndented(b []byte) ([]byte, error) {
	const outer, inner = "    ", ",\n      "
	if !a.isSimple() { // most are
		text, err := json.MarshalIndent(a, outer, "  ")
		return append(b, text...), err
	}
	b = append(append(append(b, "{"+inner[1:]+`"owner": "`...), a.Owner...), '"')
	b = append(append(append(b, inner+`"state": "`...), a.State...), '"')
	b = append(b, inner+`"prefixes": [`...)
	for i, p := range a.Prefixes {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(p.AppendTo(append(b, inner[1:]+`  "`...)), '"')
	}
	b = append(b, inner[1:]+"]"...)
	if a.Generation != 0 {
		b = strconv.AppendInt(append(b, inner+`"generation": `...), a.Generation, 10)
	}
	for _, t := range [...]struct {
		member string
		time   time.Time
	}{{inner + `"created": "`, a.Created}, {inner + `"expires": "`, a.Expires}} {
		if !t.time.IsZero() {
			b = append(t.time.AppendFormat(append(b, t.member...), time.RFC3339Nano), '"')
		}
	}
	return append(b, "\n"+outer+"}"...), nil
}

// isSimple reports whether the allocation has nothing but an owner that is the same in JSON, prefixes, a generation and
// times.
func (a *allocationText) isSimple() bool {
	escaped := func(c rune) bool { return c < ' ' || c >= 0x7f || strings.ContainsRune(`"\<>&`, c) }
	return len(a.Prefixes) > 0 && a.Scope == "" && a.Share == "" && len(a.Labels) == 0 && a.Child == "" && !a.Reserved &&
		!strings.ContainsFunc(a.Owner, escaped)
}

// packed are allocations in few bytes each. They can be read in the order in which a snapshot has them.
type packed struct {
	base  time.Time // of the times
	parts [][]byte
	at    []uint64 // where each begins: the number of the part, and where in that
	next  []byte
}

const (
	packedPart   = 1 << 20 // bytes of a part, unless one allocation has more
	packedOffset = 32      // bits
)

// The flags of a packed allocation: which members it has.
const (
	packedCreated = 1 << iota
	packedExpires
	packedDeclined
	packedReserved
	packedTexts
)

// add packs what a record says. Its text begins with what it is sorted by: the list of a snapshot that it is in, the
// addresses and the owner.
func (p *packed) add(h *holding) {
	b := p.next[:0]
	b = append(b, byte(h.use()))
	for _, prefix := range h.Prefixes {
		addr := prefix.Addr().AsSlice()
		b = append(append(b, byte(len(addr))), addr...)
	}
	b = append(append(append(b, 0), h.Owner...), 0)
	for _, prefix := range h.Prefixes {
		b = append(b, byte(prefix.Bits()))
	}
	b = binary.AppendVarint(b, h.Generation)
	texts := len(h.Labels) > 0 || h.Scope != "" || h.Share != "" || h.Child != ""
	flags := byte(0)
	for i, set := range [...]bool{!h.Created.IsZero(), !h.Expires.IsZero(), h.Declined, h.Reserved, texts} {
		if set {
			flags |= 1 << i
		}
	}
	b = append(b, flags)
	for _, t := range [...]time.Time{h.Created, h.Expires} {
		if !t.IsZero() {
			b = binary.AppendVarint(b, t.UnixMicro()-p.base.UnixMicro())
		}
	}
	if texts {
		b = appendTexts(b, h.Scope, h.Share, h.Child)
		b = binary.AppendUvarint(b, uint64(len(h.Labels)))
		for _, name := range slices.Sorted(maps.Keys(h.Labels)) {
			b = appendTexts(b, name, h.Labels[name])
		}
	}
	p.keep(b)
}

func appendTexts(b []byte, texts ...string) []byte {
	for _, text := range texts {
		b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
	}
	return b
}

// keep adds the text of one allocation.
func (p *packed) keep(b []byte) {
	p.next = b
	last := len(p.parts) - 1
	if last < 0 || cap(p.parts[last])-len(p.parts[last]) < len(b) {
		p.parts = append(p.parts, make([]byte, 0, max(packedPart, len(b))))
		last++
	}
	p.at = append(p.at, uint64(last)<<packedOffset|uint64(len(p.parts[last])))
	p.parts[last] = append(p.parts[last], b...)
}

// from returns the text from a place on, to the end of its part.
func (p *packed) from(at uint64) []byte { return p.parts[at>>packedOffset][at&(1<<packedOffset-1):] }

// sorted iterates over the allocations in the order in which a snapshot has them. Each is valid until the next one.
func (p *packed) sorted() iter.Seq[*allocationText] {
	return func(yield func(*allocationText) bool) {
		slices.SortFunc(p.at, func(x, y uint64) int { return bytes.Compare(p.from(x), p.from(y)) })
		var a allocationText
		for _, at := range p.at {
			p.unpack(&a, p.from(at))
			if !yield(&a) {
				return
			}
		}
	}
}

// unpack makes a what add has packed into b.
func (p *packed) unpack(a *allocationText, b []byte) {
	*a = allocationText{Prefixes: a.Prefixes[:0]}
	in := unpacking{rest: b}
	use := space.Use(in.bytes(1)[0])
	for n := in.bytes(1)[0]; n > 0; n = in.bytes(1)[0] {
		addr, _ := netip.AddrFromSlice(in.bytes(int(n)))
		a.Prefixes = append(a.Prefixes, netip.PrefixFrom(addr, 0))
	}
	a.Owner = string(in.bytes(bytes.IndexByte(in.rest, 0)))
	in.bytes(1)
	for i, bits := range in.bytes(len(a.Prefixes)) {
		a.Prefixes[i] = netip.PrefixFrom(a.Prefixes[i].Addr(), int(bits))
	}
	a.Generation = in.varint()
	flags := in.bytes(1)[0]
	if flags&packedCreated != 0 {
		a.Created = p.time(in.varint())
	}
	if flags&packedExpires != 0 {
		a.Expires = p.time(in.varint())
	}
	if flags&packedTexts != 0 {
		a.Scope, a.Share, a.Child = in.text(), in.text(), in.text()
		a.Labels = map[string]string{}
		for n := in.uvarint(); n > 0; n-- {
			name := in.text()
			a.Labels[name] = in.text()
		}
	}
	declined := flags&packedDeclined != 0
	h := holding{Allocation: Allocation{Declined: declined, Kept: use == space.Kept}, cooling: use != space.Held}
	a.State, a.Reserved = h.state(), flags&packedReserved != 0
}

func (p *packed) time(since int64) time.Time { return time.UnixMicro(p.base.UnixMicro() + since).UTC() }

// unpacking reads what was packed, from its beginning on.
type unpacking struct{ rest []byte }

func (u *unpacking) bytes(n int) []byte {
	b := u.rest[:n]
	u.rest = u.rest[n:]
	return b
}

func (u *unpacking) varint() int64 {
	x, n := binary.Varint(u.rest)
	u.rest = u.rest[n:]
	return x
}

func (u *unpacking) uvarint() uint64 {
	x, n := binary.Uvarint(u.rest)
	u.rest = u.rest[n:]
	return x
}

func (u *unpacking) text() string { return string(u.bytes(int(u.uvarint()))) }
