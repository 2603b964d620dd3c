package space_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool/internal/space"
)

// Whatever stands in a store in the place of a head, loading it gives an error, or a space that is what the head says: the same for a
// handle that was at another head before, and for one that loads what the space encodes.
func FuzzLoad(f *testing.F) {
	sh, rules := cutShelf(f)
	records := sh.records
	known := newSpace(f, rules)
	sh.load(f, known)
	f.Add(sh.head, false)
	empty := &shelf{}
	empty.commit(f, newSpace(f, rules))
	f.Add(empty.head, true)
	f.Add([]byte(`{"spaces":[{"family":"IPv4","pieces":[{"from":"0.0.0.0","free":"AAAAAA==","changes":"BCAKAAABhCAKAAAB"}]},`+
		`{"family":"IPv6","cursor":"::1","pieces":[{"from":"::","free":"AAAAAA=="}]}]}`), true)
	f.Fuzz(func(t *testing.T, text []byte, mend bool) {
		var head space.Head
		if json.Unmarshal(text, &head) != nil {
			return
		}
		if mend {
			head.MendChecksums()
			head.MendCounts(rules, records)
		}
		s, behind := newSpace(t, rules), newSpace(t, rules)
		err := s.Load(&head, records)
		sh.load(t, behind)
		if behindErr := behind.Load(&head, records); err != nil {
			require.ErrorIs(t, err, space.ErrCorrupt)
			require.ErrorIs(t, behindErr, space.ErrCorrupt)
			_, _, err = behind.Encode(1)
			require.ErrorIs(t, err, space.ErrCorrupt)
			sh.load(t, behind)
			requireSame(t, known, behind)
			return
		} else {
			require.NoError(t, behindErr)
		}
		requireSame(t, s, behind)
		requireUsable(t, s, behind, &head, records)
	})
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
