package space_test

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool/internal/space"
)

// The addresses of the machine: 64 of each family, which lie in several pages of the allocator, so that pieces can be
// cut there.
var (
	blocks = [2][]netip.Prefix{
		{prefix("10.0.15.224/27"), prefix("10.0.16.0/28"), prefix("10.0.48.0/28")},
		{prefix("2001:db8::/124"), prefix("2001:db8::1000/123"), prefix("2001:db8:1::/124")},
	}
	tiny = space.Limits{Inline: 4, MinPiece: 2, MaxPiece: 4, MinChanges: 6, MaxChanges: 12}
)

const reserved = 3

// machine holds a space against a model. Other handles of the same shelf lag behind, and take turns with it.
type machine struct {
	rules  space.Rules
	space  *space.Space
	others []*space.Space
	shelf  *shelf

	now   *model                         // what the space has
	base  *model                         // what is left after Rollback(Mark{})
	saved *model                         // what the shelf has
	marks []point                        // of the transaction
	wants map[*space.Space][]*space.Want // that were used

	old       *shelf // a backup
	oldModel  *model // what is in it
	abandoned []abandoned
}

// abandoned is a head that was encoded for nothing, and its text then.
type abandoned struct {
	head space.Head
	text []byte
}

type point struct {
	mark  space.Mark
	model *model
}

func newMachine(t *rapid.T) *machine {
	m := &machine{
		shelf: &shelf{}, wants: map[*space.Space][]*space.Want{},
		now: &model{owned: map[space.Whose][2]uint64{}, cursors: map[space.Family]netip.Addr{}},
	}
	strategy := rapid.SampledFrom(everyStrategy).Draw(t, "strategy")
	m.drawRules(t, strategy)
	m.space = m.fresh(t)
	m.shelf.commit(t, m.space)
	m.settled()
	m.join(t)
	return m
}

// drawRules makes rules with one or two families and any part of the addresses, perhaps none, and puts them into the
// model.
func (m *machine) drawRules(t *rapid.T, strategy space.Strategy) {
	m.rules = space.Rules{Strategy: strategy}
	m.now.allowed = map[netip.Addr]bool{}
	order := rapid.SampledFrom([][]space.Family{{0, 1}, {1, 0}, {0}, {1}}).Draw(t, "families")
	for _, f := range order {
		var set netipx.IPSetBuilder
		for _, block := range blocks[f] {
			if rapid.IntRange(0, 3).Draw(t, "use") > 0 {
				set.AddPrefix(block)
			}
		}
		for range rapid.IntRange(0, 2).Draw(t, "holes") {
			set.RemovePrefix(drawPrefix(t, f))
		}
		ips, err := set.IPSet()
		require.NoError(t, err)
		for _, r := range ips.Ranges() {
			for _, a := range addrs(r) {
				m.now.allowed[a] = true
			}
		}
		m.rules.Families = append(m.rules.Families, space.FamilyRules{
			Family: f, Set: ips, Total: cidr.Size(ips).Add(cidr.CountOf(reserved)),
		})
	}
}

func (m *machine) families() (families []space.Family) {
	for _, f := range m.rules.Families {
		families = append(families, f.Family)
	}
	return families
}

func (m *machine) fresh(t *rapid.T) *space.Space {
	s := newSpace(t, m.rules)
	s.SetLimits(tiny)
	return s
}

// settled notes that what the space has is what the shelf has.
func (m *machine) settled() { m.base, m.saved, m.marks = m.now.clone(), m.now.clone(), nil }

// join adds a handle that knows nothing.
func (m *machine) join(t *rapid.T) { m.others = append(m.others, m.fresh(t)) }

func drawFamily(t *rapid.T) space.Family { return space.Family(rapid.IntRange(0, 1).Draw(t, "family")) }

// drawPrefix draws up to 32 addresses of a family, mostly ones that may be handed out.
func drawPrefix(t *rapid.T, f space.Family) netip.Prefix {
	block := rapid.SampledFrom(blocks[f]).Draw(t, "block")
	all := addrsOf(block)
	a := rapid.SampledFrom(all).Draw(t, "addr")
	return netip.PrefixFrom(a, f.Width()-rapid.SampledFrom([]int{0, 0, 0, 1, 2, 5}).Draw(t, "order")).Masked()
}

func drawWant(t *rapid.T) *space.Want {
	w := &space.Want{Family: drawFamily(t)}
	if rapid.IntRange(0, 3).Draw(t, "exact") == 0 {
		w.Exact = drawPrefix(t, w.Family)
		return w
	}
	w.Bits = w.Family.Width() - rapid.SampledFrom([]int{0, 0, 0, 1, 2, 4, 5, -1, 6, 200}).Draw(t, "order")
	for range rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "tiers") {
		var tier *space.Part
		if rapid.IntRange(0, 4).Draw(t, "limited") > 0 {
			var set netipx.IPSetBuilder
			for range rapid.IntRange(0, 3).Draw(t, "ranges") {
				set.AddPrefix(drawPrefix(t, w.Family))
			}
			ips, _ := set.IPSet()
			tier = space.NewPart(ips.Ranges())
		}
		w.Tiers = append(w.Tiers, tier)
	}
	return w
}

// drawWant draws a new want, or one that was used before.
func (m *machine) drawWant(t *rapid.T) *space.Want {
	if len(m.wants[m.space]) > 0 && rapid.Bool().Draw(t, "again") {
		return rapid.SampledFrom(m.wants[m.space]).Draw(t, "want")
	}
	w := drawWant(t)
	m.wants[m.space] = append(m.wants[m.space], w)
	return w
}

func (m *machine) Take(t *rapid.T) {
	w := m.drawWant(t)
	choices := m.now.choices(w, m.rules.Strategy)
	before := m.space.Mark()
	p, err := m.space.Take(w)
	if len(choices) == 0 {
		require.Error(t, err)
		require.Zero(t, p)
		require.Equal(t, before, m.space.Mark())
		m.checkRefusal(t, w, err)
		return
	}
	require.NoError(t, err)
	require.Contains(t, choices, p)
	m.now.take(w, p, m.rules.Strategy)
}

func (m *machine) checkRefusal(t *rapid.T, w *space.Want, err error) {
	switch {
	case !m.space.Has(w.Family):
		require.ErrorIs(t, err, allocator.ErrOutside)
	case !w.Exact.IsValid() && (w.Bits < 0 || w.Bits > w.Family.Width()):
		require.ErrorIs(t, err, allocator.ErrInvalid)
	case !w.Exact.IsValid():
		require.ErrorIs(t, err, allocator.ErrExhausted)
	case m.space.Covers(w.Exact):
		require.ErrorIs(t, err, allocator.ErrTaken)
	default:
		require.ErrorIs(t, err, allocator.ErrOutside)
	}
}

// drawHeld draws something that is held, or skips.
func (m *machine) drawHeld(t *rapid.T) int {
	if len(m.now.held) == 0 {
		t.Skip("nothing is held")
	}
	return rapid.IntRange(0, len(m.now.held)-1).Draw(t, "held")
}

func (m *machine) Free(t *rapid.T) {
	i := m.drawHeld(t)
	h := m.now.held[i]
	require.NoError(t, m.space.Free(h.prefix, h.use))
	m.now.held = slices.Delete(m.now.held, i, i+1)
}

// FreePart gives back a half of what is held.
func (m *machine) FreePart(t *rapid.T) {
	i := m.drawHeld(t)
	h := &m.now.held[i]
	low, ok := cidr.Subnet(h.prefix, h.prefix.Bits()+1, cidr.CountOf(0))
	if !ok {
		t.Skip("an address")
	}
	high, _ := cidr.Subnet(h.prefix, h.prefix.Bits()+1, cidr.CountOf(1))
	require.NoError(t, m.space.Free(low, h.use))
	h.prefix = high
}

// FreeWrong gives back something of which a part is free.
func (m *machine) FreeWrong(t *rapid.T) {
	p := drawPrefix(t, drawFamily(t))
	taken := m.now.taken()
	if !slices.ContainsFunc(addrsOf(p), func(a netip.Addr) bool { return m.now.allowed[a] && !taken[a] }) {
		t.Skip("nothing of it is free")
	}
	before := m.space.Mark()
	require.ErrorIs(t, m.space.Free(p, drawUse(t)), allocator.ErrNotTaken)
	require.Equal(t, before, m.space.Mark())
}

func drawUse(t *rapid.T) space.Use { return space.Use(rapid.IntRange(0, 2).Draw(t, "use")) }

// UseFor uses what is held for something else.
func (m *machine) UseFor(t *rapid.T) {
	h, use := &m.now.held[m.drawHeld(t)], drawUse(t)
	m.space.Change(h.prefix, h.use, use)
	h.use = use
}

func (m *machine) Add(t *rapid.T) {
	c, by := rapid.IntRange(0, 4).Draw(t, "counter"), rapid.IntRange(-2, 3).Draw(t, "by")
	m.space.Add(space.Counter(c), by)
	m.now.records[c] = max(0, m.now.records[c]+by)
}

// Own counts some addresses as somebody's, or no longer.
func (m *machine) Own(t *rapid.T) {
	w := rapid.SampledFrom([]space.Whose{{Value: "a"}, {Value: "b"}, {Label: "é", Value: ""}}).Draw(t, "whose")
	p := prefix(rapid.SampledFrom([]string{"10.0.0.0/30", "10.0.0.9/32", "2001:db8::/126"}).Draw(t, "prefix"))
	size, f := uint64(1)<<(p.Addr().BitLen()-p.Bits()), space.FamilyOf(p.Addr())
	own := m.now.owned[w][f] < size || rapid.Bool().Draw(t, "own")
	m.space.Own(w, p, own)
	n := m.now.owned[w]
	if n[f] += size; !own {
		n[f] -= 2 * size
	}
	if m.now.owned[w] = n; n == [2]uint64{} {
		delete(m.now.owned, w)
	}
}

func (m *machine) Mark(t *rapid.T) {
	m.marks = append(m.marks, point{m.space.Mark(), m.now.clone()})
}

func (m *machine) Rollback(t *rapid.T) {
	to := rapid.IntRange(-1, len(m.marks)-1).Draw(t, "mark")
	if to < 0 {
		m.space.Rollback(space.Mark{})
		m.now, m.marks = m.base.clone(), nil
		require.False(t, m.space.Changed())
		return
	}
	m.space.Rollback(m.marks[to].mark)
	require.Equal(t, m.marks[to].mark, m.space.Mark())
	m.now, m.marks = m.marks[to].model.clone(), m.marks[:to]
}

func (m *machine) Keep(t *rapid.T) {
	m.space.Keep()
	m.base, m.marks = m.now.clone(), nil
}

func (m *machine) Commit(t *rapid.T) {
	m.shelf.commit(t, m.space)
	m.settled()
}

// CommitFails encodes for nothing: the changes are still there.
func (m *machine) CommitFails(t *rapid.T) {
	head, _, err := m.space.Encode(m.shelf.revision)
	require.NoError(t, err)
	text, err := json.Marshal(head)
	require.NoError(t, err)
	m.abandoned = append(m.abandoned, abandoned{head, text})
}

// Backup copies what is stored.
func (m *machine) Backup(t *rapid.T) {
	old := m.shelf.backup()
	m.old, m.oldModel = &old, m.saved.clone()
}

// Restore brings the backup back, which is older than what the handles know.
func (m *machine) Restore(t *rapid.T) {
	if m.old == nil {
		t.Skip("there is no backup")
	}
	m.shelf.restore(*m.old)
	m.saved = m.oldModel.clone()
	m.Reload(t)
}

// Switch goes on with another handle, which catches up first. What this one has not committed is lost.
func (m *machine) Switch(t *rapid.T) {
	i := rapid.IntRange(0, len(m.others)-1).Draw(t, "other")
	m.space, m.others[i] = m.others[i], m.space
	m.shelf.load(t, m.space)
	m.now = m.saved.clone()
	m.settled()
	if len(m.others) < 3 && rapid.Bool().Draw(t, "one more") {
		m.join(t)
	}
}

// Reload drops what is not committed.
func (m *machine) Reload(t *rapid.T) {
	m.shelf.load(t, m.space)
	m.now = m.saved.clone()
	m.settled()
}

// Change gives the pool other rules: what is held moves as a whole if it can, and else one by one.
func (m *machine) Change(t *rapid.T) {
	_, out4 := m.now.count(space.V4)
	_, out6 := m.now.count(space.V6)
	m.drawRules(t, m.rules.Strategy)
	movable := out4+out6 == 0
	for a := range m.now.taken() {
		movable = movable && m.now.allowed[a]
	}
	old := m.space
	m.space = m.fresh(t)
	before := viewOf(old)
	require.Equal(t, movable, m.space.TakeOver(old))
	require.Equal(t, before, viewOf(old))
	if !movable {
		m.space = m.fresh(t)
		m.holdAll(t)
	}
	m.space.KeepCursors(old)
	for f := range m.now.cursors {
		if !m.space.Has(f) {
			delete(m.now.cursors, f)
		}
	}
	require.False(t, m.space.Changed())
	m.shelf.clear()
	m.Commit(t)
	m.others, m.old = nil, nil
	m.join(t)
}

func (m *machine) holdAll(t *rapid.T) {
	for _, h := range m.now.held {
		require.False(t, m.space.Hold(h.prefix, h.use))
	}
	for c, n := range m.now.records {
		m.space.Add(space.Counter(c), n)
	}
	for w, n := range m.now.owned {
		for range n[0] {
			m.space.Own(w, prefix("10.0.0.0/32"), true)
		}
		for range n[1] {
			m.space.Own(w, prefix("2001:db8::/128"), true)
		}
	}
	m.space.Keep()
}

func (m *machine) Look(t *rapid.T) {
	p := drawPrefix(t, drawFamily(t))
	var outside uint64
	inside, taken := []netip.Addr{}, m.now.taken()
	free := true
	for _, a := range addrsOf(p) {
		if !m.now.allowed[a] {
			outside++
			continue
		}
		inside = append(inside, a)
		free = free && !taken[a]
	}
	in, out := m.space.Inside(p)
	got := []netip.Addr{}
	for _, part := range in {
		got = append(got, addrsOf(part)...)
	}
	require.Equal(t, inside, got)
	require.Equal(t, cidr.CountOf(outside), out)
	require.Equal(t, outside == 0, m.space.Covers(p))
	require.Equal(t, free, m.space.IsFreeWithin(p))
}

// Check is called after each action.
func (m *machine) Check(t *rapid.T) {
	s := m.space
	require.Equal(t, m.now.counts(m.families(), reserved), s.Counts())
	var cursors []netip.Addr
	for _, f := range []space.Family{space.V4, space.V6} {
		require.Equal(t, asSet(m.now.of(f, false)).Ranges(), s.FreeSet(f).Ranges())
		require.Equal(t, asSet(m.now.of(f, true)).Ranges(), s.TakenSet(f).Ranges())
		uses, outOfRange := m.now.count(f)
		require.Equal(t, cidr.CountOf(uses[space.Cooling]), s.InUse(f, space.Cooling))
		require.Equal(t, cidr.CountOf(uses[space.Kept]), s.InUse(f, space.Kept))
		require.Equal(t, cidr.CountOf(outOfRange), s.OutOfRange(f))
		if c := m.now.cursors[f]; c.IsValid() {
			cursors = append(cursors, c)
		}
	}
	require.Equal(t, cursors, s.Cursors())
	for c, n := range m.now.records {
		require.Equal(t, n, s.Tally(space.Counter(c)))
	}
	require.Equal(t, len(m.now.owned), s.Owners())
	for w, n := range m.now.owned {
		require.Equal(t, cidr.CountOf(n[0]), s.OwnedBy(w, space.V4))
		require.Equal(t, cidr.CountOf(n[1]), s.OwnedBy(w, space.V6))
	}
	require.True(t, slices.IsSortedFunc(s.Owned(), func(a, b space.Owned) int {
		return strings.Compare(a.Label+"\x00"+a.Value, b.Label+"\x00"+b.Value)
	}))
	head := m.shelf.read(t)
	require.NoError(t, head.Check(m.families()))
	require.Equal(t, m.saved.counts(m.families(), reserved), head.Counts())
	for _, a := range m.abandoned {
		text, err := json.Marshal(a.head)
		require.NoError(t, err)
		require.Equal(t, string(a.text), string(text), "a head does not change after it was returned")
	}
}

func asSet(addrs []netip.Addr) *netipx.IPSet {
	var set netipx.IPSetBuilder
	for _, a := range addrs {
		set.Add(a)
	}
	ips, _ := set.IPSet()
	return ips
}

// Whatever is done and undone, committed, lost and loaded by several handles in turn, a space is what the model says.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		t.Repeat(rapid.StateMachineActions(newMachine(t)))
	})
}
