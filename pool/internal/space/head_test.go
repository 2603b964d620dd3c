package space_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool/internal/space"
)

// The text of a head is what people and later releases read.
func TestHeadText(t *testing.T) {
	s := newSpace(t, rulesOf(space.Next, 2, setOf(t, "10.0.0.0/24"), setOf(t, "2001:db8::/120")))
	take(t, s, &space.Want{Bits: 32})
	take(t, s, &space.Want{Family: space.V6, Bits: 124})
	s.Change(prefix("2001:db8::/124"), space.Held, space.Cooling)
	s.Add(space.Expiring, 3)
	s.Add(space.Aside, 2)
	s.Add(space.Delegated, 1)
	head, writes, err := s.Encode(7)
	require.NoError(t, err)
	require.Empty(t, writes)
	text, err := json.MarshalIndent(head, "", " ")
	require.NoError(t, err)
	require.JSONEq(t, `{
 "spaces": [
  {
   "family": "IPv4",
   "total": "258",
   "reserved": "2",
   "used": "1",
   "free": "255",
   "cursor": "10.0.0.1",
   "pieces": [
    {
     "from": "0.0.0.0",
     "free": "goCAoAH+Ab4vEo4="
    }
   ]
  },
  {
   "family": "IPv6",
   "total": "258",
   "reserved": "2",
   "used": "0",
   "cooling": "16",
   "free": "240",
   "cursor": "2001:db8::10",
   "pieces": [
    {
     "from": "::",
     "free": "oICAgICAgICAgICAgIDcjYKAAe8BcTxd/Q=="
    }
   ]
  }
 ],
 "expiring": 3,
 "aside": 2,
 "delegated": 1
}`, string(text))
}

// cutShelf is a shelf with the free space of two families, of which the first is in pieces with changes.
func cutShelf(t testing.TB) (*shelf, space.Rules) {
	rules := rulesOf(space.Next, 0, setOf(t, "10.0.0.0/16"), setOf(t, "2001:db8::/120"))
	s, sh := newSpace(t, rules), &shelf{}
	s.SetLimits(space.Limits{Inline: 40, MinPiece: 300, MaxPiece: 300, MinChanges: 40, MaxChanges: 40})
	alternate(t, s, prefix("10.0.0.0/18"))
	take(t, s, &space.Want{Family: space.V6, Bits: 128})
	sh.commit(t, s)
	require.Greater(t, len(sh.records), 3)
	take(t, s, exactly("10.0.0.1/32"))
	require.NoError(t, s.Free(prefix("10.0.0.8/32"), space.Held))
	take(t, s, exactly("10.0.255.0/24"))
	s.Hold(prefix("192.0.2.0/24"), space.Cooling)
	s.Keep()
	sh.commit(t, s)
	take(t, s, exactly("10.0.0.3/32"))
	require.NoError(t, s.Free(prefix("10.0.0.10/32"), space.Held))
	sh.commit(t, s)
	return sh, rules
}

func families(rules space.Rules) (out []space.Family) {
	for _, f := range rules.Families {
		out = append(out, f.Family)
	}
	return out
}

// Whatever is wrong with the structure of a head is found before anything is loaded.
func TestCheck(t *testing.T) {
	sh, rules := cutShelf(t)
	require.NoError(t, sh.read(t).Check(families(rules)))
	require.ErrorIs(t, sh.read(t).Check(families(rules)[:1]), space.ErrCorrupt)
	require.ErrorIs(t, sh.read(t).Check([]space.Family{space.V6, space.V4}), space.ErrCorrupt)
	id := slices.Sorted(slices.Values(ids(sh.records)))[0]
	for name, edit := range map[string][2]string{
		"bottom":        {`"from":"0.0.0.0"`, `"from":"0.0.0.1"`},
		"family":        {`"from":"0.0.0.0"`, `"from":"::"`},
		"order":         {`"from":"10.0.16.0"`, `"from":"10.255.0.0"`},
		"other family":  {`"from":"10.0.16.0"`, `"from":"::ffff:10.0.16.0"`},
		"no address":    {`"from":"10.0.16.0"`, `"from":""`},
		"no record":     {`"id":"` + id + `",`, ``},
		"record twice":  {`"id":"` + id + `"`, `"id":"1.9"`},
		"two encodings": {`"id":"` + id + `"`, `"id":"` + id + `","free":"AAAA"`},
		"size":          {`"size":`, `"size":-`},
		"no pieces":     {`"pieces":[{"from":"::"`, `"pieces":[],"x":[{"from":"::"`},
		"cursor":        {`"cursor":"2001:db8::1"`, `"cursor":"10.0.0.1"`},
		"zone":          {`"cursor":"2001:db8::1"`, `"cursor":"2001:db8::1%eth0"`},
		"counter":       {`"spaces"`, `"aside":-1,"spaces"`},
		"left":          {`"spaces"`, `"left":[{"family":"IPv4"}],"spaces"`},
	} {
		t.Run(name, func(t *testing.T) {
			text := string(sh.head)
			if name == "record twice" {
				text = strings.ReplaceAll(text, `"id":"1.`, `"id":"1.9","x":"`)
				text = strings.ReplaceAll(text, `"id":"0.`, `"id":"1.9","x":"`)
			}
			bad := &shelf{head: []byte(strings.Replace(text, edit[0], edit[1], 1))}
			require.NotEqual(t, string(sh.head), string(bad.head))
			require.ErrorIs(t, bad.read(t).Check(families(rules)), space.ErrCorrupt)
			require.ErrorIs(t, newSpace(t, rules).Load(bad.read(t), sh.records), space.ErrCorrupt)
		})
	}
}

// After a failed load a space refuses to be used, and the next load makes it whole, from nothing.
func TestFailedLoad(t *testing.T) {
	sh, rules := cutShelf(t)
	all := sh.read(t).PieceIDs()
	last := all[len(all)-1]
	for name, spoil := range map[string]func(records map[string][]byte){
		"missing":  func(records map[string][]byte) { delete(records, last) },
		"no JSON":  func(records map[string][]byte) { records[last] = []byte("free") },
		"cut":      func(records map[string][]byte) { records[last] = []byte(`{"free":"AAAA"}`) },
		"checksum": func(records map[string][]byte) { records[last] = []byte(`{"free":"AAAAAAAAAAA="}`) },
		"another":  func(records map[string][]byte) { records[last] = records[all[1]] },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSpace(t, rules)
			take(t, s, exactly("10.0.77.0/24"))
			bad := sh.backup()
			spoil(bad.records)
			require.Equal(t, all, s.Missing(bad.read(t)))
			require.ErrorIs(t, s.Load(bad.read(t), bad.records), space.ErrCorrupt)
			requireBroken(t, s)
			require.Equal(t, all, s.Missing(sh.read(t)), "nothing is known any more")
			sh.load(t, s)
			fresh := newSpace(t, rules)
			sh.load(t, fresh)
			requireSame(t, fresh, s)
		})
	}
}

func requireBroken(t *testing.T, s *space.Space) {
	t.Helper()
	mark := s.Mark()
	require.ErrorIs(t, refused(s, &space.Want{Bits: 32}), space.ErrCorrupt)
	require.ErrorIs(t, s.Free(prefix("10.0.77.0/24"), space.Held), space.ErrCorrupt)
	require.Equal(t, mark, s.Mark())
	head, writes, err := s.Encode(1)
	require.ErrorIs(t, err, space.ErrCorrupt)
	require.Zero(t, head)
	require.Nil(t, writes)
	next := newSpace(t, s.Rules())
	require.False(t, next.TakeOver(s))
}

// Changes that cannot be are found: cut short, no prefix, in another piece, done already.
func TestBadChanges(t *testing.T) {
	_, rules := cutShelf(t)
	for name, c := range map[string]struct {
		changes []byte
		want    string
	}{
		"length only": {[]byte{1}, "cut short"},
		"no address":  {[]byte{1, 32}, "cut short"},
		"17 bytes":    {append([]byte{17, 32}, make([]byte, 17)...), "cut short"},
		"33 bits":     {[]byte{1, 33, 1}, "no valid prefix"},
		"host bits":   {[]byte{1, 24, 1}, "host bits"},
		"other piece": {[]byte{4, 32, 10, 0, 64, 1}, "another piece"},
		"reaches out": {[]byte{4, 16, 10, 0, 0, 0}, "another piece"},
		"IPv6":        {[]byte{5, 32, 0, 10, 0, 0, 1}, "another piece"},
		"taken twice": {[]byte{4, 32, 10, 0, 0, 2}, "taken"},
		"freed twice": {[]byte{0x84, 32, 10, 0, 0, 5}, "not taken"},
		"outside":     {[]byte{4, 32, 9, 0, 0, 0}, "outside of the set"},
	} {
		t.Run(name, func(t *testing.T) {
			bad, _ := cutShelf(t)
			editPiece(t, bad, 0, func(piece map[string]any) { piece["changes"] = c.changes })
			s := newSpace(t, rules)
			err := s.Load(bad.read(t), bad.records)
			require.ErrorIs(t, err, space.ErrCorrupt)
			require.ErrorContains(t, err, "the changes from 0.0.0.0 on")
			require.ErrorContains(t, err, c.want)
			requireBroken(t, s)
		})
	}
}

// editPiece edits a piece of the first family in the text of a head.
func editPiece(t *testing.T, sh *shelf, i int, edit func(piece map[string]any)) {
	var head map[string]any
	require.NoError(t, json.Unmarshal(sh.head, &head))
	first := head["spaces"].([]any)[0].(map[string]any)
	edit(first["pieces"].([]any)[i].(map[string]any))
	var err error
	sh.head, err = json.Marshal(head)
	require.NoError(t, err)
}

// A load drops what is not committed.
func TestLoadUndoes(t *testing.T) {
	sh, rules := cutShelf(t)
	s, fresh := newSpace(t, rules), newSpace(t, rules)
	sh.load(t, s)
	sh.load(t, fresh)
	take(t, s, exactly("10.0.200.0/24"))
	s.Add(space.Delegated, 1)
	require.True(t, s.Changed())
	require.Empty(t, s.Missing(sh.read(t)))
	sh.load(t, s)
	requireSame(t, fresh, s)
}

// Adversarial sizes: all of a family, and none of it.
func TestWholeFamilies(t *testing.T) {
	rules := rulesOf(space.Lowest, 0, setOf(t, "0.0.0.0/0"), setOf(t, "::/0"))
	s, other, sh := newSpace(t, rules), newSpace(t, rules), &shelf{}
	require.Equal(t, "0.0.0.0/0", take(t, s, &space.Want{}))
	require.Equal(t, "::/0", take(t, s, &space.Want{Family: space.V6}))
	sh.commit(t, s)
	sh.load(t, other)
	requireSame(t, s, other)
	require.Equal(t, cidr.Pow2(128), other.Counts()[1].Used)
	require.ErrorIs(t, refused(other, &space.Want{Bits: 32}), allocator.ErrExhausted)
	require.NoError(t, other.Free(prefix("::/0"), space.Held))
	sh.commit(t, other)
	sh.load(t, s)
	requireSame(t, other, s)
}
