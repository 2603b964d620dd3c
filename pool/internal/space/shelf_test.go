package space_test

import (
	"encoding/json"
	"maps"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool/internal/space"
)

// shelf is a store of one pool: the text of its head and the records of its pieces. It gives nothing that was not
// asked for.
type shelf struct {
	revision int64
	head     []byte
	records  map[string][]byte
}

// stored is what the record of a head has: the space's part among others.
type stored struct {
	Format int `json:"format"`
	space.Head
}

// commit writes what the space has.
func (sh *shelf) commit(t require.TestingT, s *space.Space) {
	head, writes, err := s.Encode(sh.revision)
	require.NoError(t, err)
	sh.write(t, head, writes)
	s.Committed(head)
}

func (sh *shelf) write(t require.TestingT, head space.Head, writes []space.PieceWrite) {
	text, err := json.Marshal(stored{1, head})
	require.NoError(t, err)
	sh.head = text
	sh.revision++
	if sh.records == nil {
		sh.records = map[string][]byte{}
	}
	for _, w := range writes {
		_, exists := sh.records[w.ID]
		require.Equal(t, w.Data == nil, exists, "a record is created once and deleted once: %q", w.ID)
		if delete(sh.records, w.ID); w.Data != nil {
			sh.records[w.ID] = w.Data
		}
	}
	require.ElementsMatch(t, sh.read(t).PieceIDs(), ids(sh.records), "records are those that the head names")
}

func ids(records map[string][]byte) []string {
	ids := []string{}
	for id := range records {
		ids = append(ids, id)
	}
	return ids
}

func (sh *shelf) read(t require.TestingT) *space.Head {
	var s stored
	require.NoError(t, json.Unmarshal(sh.head, &s))
	require.Equal(t, 1, s.Format)
	return &s.Head
}

// load brings a space up to the head, with no more records than it asks for.
func (sh *shelf) load(t require.TestingT, s *space.Space) {
	head := sh.read(t)
	records := map[string][]byte{}
	for _, id := range s.Missing(head) {
		require.Contains(t, sh.records, id)
		records[id] = sh.records[id]
	}
	require.NoError(t, s.Load(head, records))
	require.Empty(t, s.Missing(head))
	require.False(t, s.Changed())
}

// backup returns a copy of what is stored, for restore.
func (sh *shelf) backup() shelf { return shelf{head: sh.head, records: maps.Clone(sh.records)} }

// restore makes what is stored what it was once. The revision goes on.
func (sh *shelf) restore(old shelf) { sh.head, sh.records = old.head, maps.Clone(old.records) }

// clear drops what is in the way of a space that was made anew.
func (sh *shelf) clear() { sh.records = nil }
