package pooltest

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
)

// model is what a pool must hold, as far as its children have told.
type model struct {
	claims  map[string]pool.Claim
	held    map[string]pool.Allocation
	begun   map[string]Event // calls that have not returned, with the newest generation when each began
	newest  int64
	holders map[netip.Addr]string // of all that is held; it may be of one who is releasing it
}

func newModel() *model {
	m := &model{
		claims: map[string]pool.Claim{}, held: map[string]pool.Allocation{},
		begun: map[string]Event{}, holders: map[netip.Addr]string{},
	}
	for worker := range workers {
		for n := range workerOwners {
			c := Claim(worker, n)
			m.claims[c.Owner] = c
		}
	}
	return m
}

// note takes in an event of a child that still ran, and checks the answer in it.
func (m *model) note(t *testing.T, e Event) {
	t.Helper()
	call, begun := m.begun[e.Owner]
	require.Equal(t, begun, e.Returned, "a call returns once")
	if !e.Returned {
		e.Generation = m.newest
		m.begun[e.Owner] = e
		return
	}
	require.Equal(t, call.Release, e.Release)
	held, holds := m.held[e.Owner]
	if holds || e.Release { // the same owner gets the same answer, and releases what it got
		require.Equal(t, held.Prefixes, e.Prefixes, "what %v holds", e.Owner)
		require.Equal(t, held.Generation, e.Generation, "what %v holds", e.Owner)
	}
	switch {
	case e.Release:
		m.release(e.Owner)
	case !holds:
		require.Greater(t, e.Generation, call.Generation)
		m.grant(t, pool.Allocation{Owner: e.Owner, Prefixes: e.Prefixes, Generation: e.Generation})
	}
	delete(m.begun, e.Owner)
}

// grant makes the owner hold what nobody else may hold, unless he is releasing it.
func (m *model) grant(t *testing.T, a pool.Allocation) {
	t.Helper()
	requireAnswers(t, m.claims[a.Owner], a)
	for addr := range addrsOf(a.Prefixes) {
		other, taken := m.holders[addr]
		require.True(t, !taken || other == a.Owner || m.begun[other].Release, "%v is held by %s and %s", addr, other, a.Owner)
		m.holders[addr] = a.Owner
	}
	m.held[a.Owner] = a
	m.newest = max(m.newest, a.Generation)
}

func (m *model) release(owner string) {
	for addr := range addrsOf(m.held[owner].Prefixes) {
		if m.holders[addr] == owner {
			delete(m.holders, addr)
		}
	}
	delete(m.held, owner)
}

// requireAnswers checks that an allocation is of the form that the claim asks for.
func requireAnswers(t *testing.T, c pool.Claim, a pool.Allocation) {
	t.Helper()
	want := c.Requests
	if want == nil {
		want = []pool.Request{{Family: pool.IPv4}}
		if c.Policy == pool.RequireDualStack {
			want = append(want, pool.Request{Family: pool.IPv6})
		}
	}
	require.Len(t, a.Prefixes, len(want))
	for i, p := range a.Prefixes {
		switch r := want[i]; {
		case r.Exact.IsValid():
			require.Equal(t, r.Exact, p)
		case r.Bits != 0:
			require.Equal(t, r.Bits, p.Bits())
		default:
			require.Equal(t, r.Family, pool.FamilyOf(p.Addr()))
			require.True(t, p.IsSingleIP())
		}
	}
}

// settle compares the model with what the pool holds after a kill. A call that had not returned may
// have taken effect or not: the model then goes on with what was found. It returns how many such calls
// had taken effect, and how many not.
func (m *model) settle(t *testing.T, found map[string]pool.Allocation) (done, undone int) {
	t.Helper()
	var granted []pool.Allocation
	for owner, call := range m.begun {
		_, held := m.held[owner]
		a, holds := found[owner]
		switch {
		case call.Release != held: // asked again, or released nothing: no effect in any case
		case held == holds:
			undone++
		case call.Release:
			m.release(owner)
			done++
		default:
			require.Greater(t, a.Generation, call.Generation)
			granted = append(granted, a)
			done++
		}
	}
	clear(m.begun)
	for _, a := range granted {
		m.grant(t, a)
	}
	for owner, want := range m.held {
		a, holds := found[owner]
		require.True(t, holds, "%s has lost %v", owner, want.Prefixes)
		require.Equal(t, want.Prefixes, a.Prefixes, "what %s was granted", owner)
		require.Equal(t, want.Generation, a.Generation, "what %s was granted", owner)
	}
	for owner, a := range found {
		_, holds := m.held[owner]
		require.True(t, holds, "%s has released %v, which is held", owner, a.Prefixes)
	}
	return done, undone
}
