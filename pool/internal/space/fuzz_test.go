package space_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool/internal/space"
)

// Whatever stands in a store in the place of a head, loading it gives an error, or a space that is what the head
// says: the same for a handle that was at another head before, and for one that loads what the space encodes.
func FuzzLoad(f *testing.F) {
	sh, rules := smallShelf(f)
	records := sh.records
	known := newSpace(f, rules)
	sh.load(f, known)
	f.Add(sh.head, false, uint8(0), []byte{}, []byte{})
	f.Add(sh.head, true, uint8(1), []byte{4, 32, 10, 0, 16, 1, 0x84, 31, 10, 0, 16, 0}, []byte{})
	f.Add(sh.head, true, uint8(4), []byte{1, 128, 0, 0x81, 128, 0}, []byte{0, 5, 0, 0, 0, 0})
	empty := &shelf{}
	empty.commit(f, newSpace(f, rules))
	f.Add(empty.head, true, uint8(0), []byte{4, 16, 10, 0, 0, 0}, []byte{0x80, 0x80, 0xa0, 1, 0xff, 1, 0, 0, 0, 0})
	f.Add([]byte(`{"spaces":[{"family":"IPv4","pieces":[{"from":"0.0.0.0","free":"AAAAAA==",`+
		`"changes":"BCAKAAABhCAKAAAB"}]},`+
		`{"family":"IPv6","cursor":"::1","pieces":[{"from":"::","free":"AAAAAA=="}]}]}`),
		true, uint8(1), []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, text []byte, mend bool, at uint8, changes, free []byte) {
		var head space.Head
		if json.Unmarshal(text, &head) != nil {
			return
		}
		if mend {
			edit(&head, int(at), changes, free)
			head.MendChecksums()
			head.MendCounts(rules, records)
		}
		s, behind := newSpace(t, rules), newSpace(t, rules)
		err := s.Load(&head, records)
		sh.load(t, behind)
		behindErr := behind.Load(&head, records)
		if err != nil {
			require.ErrorIs(t, err, space.ErrCorrupt)
			require.ErrorIs(t, behindErr, space.ErrCorrupt)
			_, _, err = behind.Encode(1)
			require.ErrorIs(t, err, space.ErrCorrupt)
			sh.load(t, behind)
			requireSame(t, known, behind)
			return
		}
		require.NoError(t, behindErr)
		requireSame(t, s, behind)
		requireUsable(t, s, behind, &head, records)
	})
}

// edit appends to the changes of one of the pieces, and gives it another encoding if that stands in the head.
func edit(head *space.Head, at int, changes, free []byte) {
	for i := range head.Spaces {
		for j := range head.Spaces[i].Pieces {
			if p := &head.Spaces[i].Pieces[j]; at == 0 {
				p.Changes = append(p.Changes, changes...)
				if p.ID == "" && len(free) > 0 {
					p.Free = slices.Clone(free)
				}
			}
			at--
		}
	}
}

// smallShelf is a shelf with a few addresses in each of four pieces, with changes, so that an execution is short.
func smallShelf(t testing.TB) (*shelf, space.Rules) {
	rules := rulesOf(space.Lowest, 0, setOf(t, "10.0.0.0/16"), setOf(t, "2001:db8::/120"))
	s, sh := newSpace(t, rules), &shelf{}
	s.SetLimits(space.Limits{Inline: 15, MinPiece: 2, MaxPiece: 4, MinChanges: 100, MaxChanges: 100})
	for _, p := range []string{"10.0.0.1/32", "10.0.16.0/24", "10.0.32.8/29", "10.0.48.3/32", "2001:db8::/124"} {
		take(t, s, exactly(p))
	}
	sh.commit(t, s)
	require.Greater(t, len(sh.records), 3)
	for _, p := range []string{"10.0.0.3/32", "10.0.16.0/24", "10.0.40.0/23"} {
		if s.IsFreeWithin(prefix(p)) {
			take(t, s, exactly(p))
		} else {
			require.NoError(t, s.Free(prefix(p), space.Held))
		}
	}
	s.Add(space.Aside, 1)
	sh.commit(t, s)
	require.Contains(t, string(sh.head), "changes")
	return sh, rules
}

// requireUsable makes a change in a loaded space and commits it: others load the same.
func requireUsable(t *testing.T, s, behind *space.Space, head *space.Head, records map[string][]byte) {
	again := &shelf{revision: 1 << 60, records: map[string][]byte{}}
	for _, id := range head.PieceIDs() {
		again.records[id] = records[id]
	}
	for _, w := range []*space.Want{{Bits: 32}, {Family: space.V6, Bits: 124}} {
		if p, err := s.Take(w); err == nil {
			require.True(t, s.Covers(p))
		}
	}
	again.commit(t, s)
	again.load(t, behind)
	requireSame(t, s, behind)
	fresh := newSpace(t, s.Rules())
	again.load(t, fresh)
	requireSame(t, s, fresh)
	require.Equal(t, s.Counts(), again.read(t).Counts())
}
