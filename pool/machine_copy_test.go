package pool_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"slices"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/internal/world"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// exported is a pool's snapshot, through its text and back.
func exported(t *rapid.T, p *pool.Pool) pool.Snapshot {
	var text bytes.Buffer
	require.NoError(t, p.Export(context.Background(), &text))
	var snapshot pool.Snapshot
	require.NoError(t, json.Unmarshal(text.Bytes(), &snapshot))
	return snapshot
}

// Import copies a pool to another name in its store, as one by itself, and maybe into another network.
func (s *machine) Import(t *rapid.T) {
	m := s.anyPool(t)
	name := rapid.SampledFrom(s.names).Draw(t, "name")
	snapshot := exported(t, s.handle(t, m.Name))
	if m.IsChild() {
		_, err := pool.Import(context.Background(), s.base, name, snapshot, s.options)
		require.Error(t, err)
		snapshot.Parent, snapshot.Grants = "", nil
	}
	imported := s.world.Copy(m.Name, name)
	imported.Spec.Network = rapid.SampledFrom(append(s.networks, m.Spec.Network)).Draw(t, "network")
	snapshot.Spec.Network = imported.Spec.Network
	after, no := s.world.Import(imported)
	var p *pool.Pool
	err := s.call(t, func(ctx context.Context) (err error) {
		p, err = pool.Import(ctx, s.base, name, snapshot, s.options)
		return err
	})
	if s.answered(t, err, after, no) {
		s.handles[name] = append(s.handles[name], p)
		s.learn(t, s.world.Pools[name], p)
	}
}

// learn fills in the generations of what was imported.
func (s *machine) learn(t *rapid.T, m *world.Pool, p *pool.Pool) {
	all, err := p.Snapshot(context.Background())
	require.NoError(t, err)
	s.learnGenerations(m, all)
	for _, r := range m.Records {
		require.Positive(t, r.Generation)
	}
}

// Copy copies a pool, and all that was delegated from it, to another store, in which it may go wrong.
func (s *machine) Copy(t *rapid.T) {
	root := s.anyPool(t)
	names := s.world.Family(root.Name)
	if rapid.IntRange(0, 3).Draw(t, "some order") == 0 {
		names = rapid.Permutation(names).Draw(t, "order")
	}
	memory, w := store.NewMemory(), (&world.World{}).At(s.world.Now)
	for _, name := range names {
		w = s.copyTo(t, memory, w, name, name == root.Name)
	}
	require.NoError(t, w.Check())
	require.NoError(t, world.Audit(context.Background(), memory))
}

// copyTo copies a pool to another store, and returns the world there.
func (s *machine) copyTo(t *rapid.T, memory *store.Memory, w *world.World, name string, byItself bool) *world.World {
	m := s.world.Pools[name]
	snapshot, imported := exported(t, s.handle(t, name)), s.world.Copy(name, name)
	if byItself {
		snapshot.Parent, snapshot.Grants = "", nil
	} else {
		imported.Parent, imported.Grants = m.Parent, slices.Clone(m.Grants)
	}
	if s.store == nil {
		imported.Name = "copy"
	}
	s.tamper(t, imported, &snapshot)
	after, no := w.Import(imported)
	p, err := pool.Import(context.Background(), memory, imported.Name, snapshot, s.options)
	if len(no) > 0 {
		requireRefused(t, err, no)
		return w
	}
	require.NoError(t, err)
	s.learn(t, after.Pools[imported.Name], p)
	requireSame(t, after, imported.Name, p)
	p, err = pool.Open(context.Background(), memory, imported.Name, s.options)
	require.NoError(t, err)
	requireSame(t, after, imported.Name, p)
	return after
}

// tamper changes a copy, and the snapshot of it alike, so that a child may not fit its parent any more.
func (s *machine) tamper(t *rapid.T, m *world.Pool, snapshot *pool.Snapshot) {
	if !m.IsChild() {
		return
	}
	switch rapid.IntRange(0, 9).Draw(t, "tamper") {
	case 0:
		m.Name = "another"
	case 1:
		m.Spec.Network = "another"
	case 2:
		m.Grants = []string{"nobody"}
		snapshot.Grants = []pool.Grant{{Owner: "nobody", Prefixes: snapshot.Grants[0].Prefixes}}
	case 3:
		f := m.Families()[0]
		a := anyAddr(m.Universe[f]).Draw(t, "held")
		if m.Taken()[a] == nil && m.Find("outsider") == nil {
			own := []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}
			held := pool.Allocation{Owner: "outsider", Prefixes: own, Created: s.world.Now}
			m.Records = append(m.Records, &world.Record{Allocation: held})
			snapshot.Allocations = append(snapshot.Allocations, held)
		}
	}
	snapshot.Spec.Network = m.Spec.Network
}
