package pool_test

import (
	"context"
	"fmt"
	"iter"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// beheaded returns a store with the records of pool blue, in which "a" holds 10.0.0.0 and what "b" has released cools
// down, and without its head.
func beheaded(t *testing.T, keep bool) *store.Memory {
	t.Helper()
	memory := store.NewMemory()
	spec := specOf("10.0.0.0/29")
	spec.Cooldown = 1 << 40
	p := create(t, memory, spec)
	allocate(t, p, pool.Claim{Owner: "a"})
	allocate(t, p, pool.Claim{Owner: "b"})
	release(t, p, "b")
	if !keep {
		release(t, p, "a")
	}
	head, err := memory.Get(t.Context(), store.Key{Kind: store.KindPool, Pool: "blue"})
	require.NoError(t, err)
	damage(t, memory, store.Write{Op: store.Delete, Record: head})
	return memory
}

// TestNoPoolIsMadeOverRecords: where a head was deleted by hand, no pool is made over what owners hold, in whichever
// way, and Recover takes that up.
func TestNoPoolIsMadeOverRecords(t *testing.T) {
	spec := specOf("10.0.0.0/29")
	snapshot := func(n int) pool.Snapshot {
		s := pool.Snapshot{Info: pool.Info{Spec: specOf("10.0.0.0/16")}}
		next := addr("10.0.0.0")
		for range n {
			s.Allocations = append(s.Allocations,
				pool.Allocation{Owner: next.String(), Prefixes: []netip.Prefix{netip.PrefixFrom(next, 32)}})
			next = next.Next()
		}
		return s
	}
	for name, make := range map[string]func(s *store.Memory) error{
		"create": func(s *store.Memory) error { _, err := pool.Create(t.Context(), s, "blue", spec, nil); return err },
		"open or create": func(s *store.Memory) error {
			_, err := pool.Ensure(t.Context(), s, "blue", spec, pool.Keep, nil)
			return err
		},
		"import": func(s *store.Memory) error {
			_, err := pool.Import(t.Context(), s, "blue", snapshot(3), nil)
			return err
		},
		"import in several commits": func(s *store.Memory) error {
			_, err := pool.Import(t.Context(), &tooLarge{Store: s, limit: 100}, "blue", snapshot(1000), nil)
			return err
		},
		"delegate": func(s *store.Memory) error {
			parent, err := pool.Create(t.Context(), s, "parent", specOf("192.0.2.0/24"), nil)
			require.NoError(t, err)
			_, _, err = pool.Delegate(t.Context(), parent, claim("child", "192.0.2.0/28"), "blue", pool.Spec{}, nil)
			require.Zero(t, used(t, parent), "nothing is granted")
			return err
		},
	} {
		for _, keep := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				memory := beheaded(t, keep)
				records := dump(t, memory)
				err := make(memory)
				require.ErrorIs(t, err, pool.ErrOrphaned)
				require.ErrorContains(t, err, "Recover")
				require.Equal(t, records, dump(t, memory))
				p, err := pool.Recover(t.Context(), memory, "blue", spec, nil)
				require.NoError(t, err)
				requireOK(t, p)
				require.Equal(t, records, dump(t, memory))
				require.Equal(t, "10.0.0.2", texts(allocate(t, p, pool.Claim{Owner: "c"})), "the first two cool down, or are held")
				_, err = pool.Recover(t.Context(), memory, "blue", spec, nil)
				require.ErrorIs(t, err, pool.ErrExists)
				if name != "open or create" && name != "delegate" {
					require.ErrorIs(t, make(memory), pool.ErrExists)
				}
			})
		}
	}
}

// TestRepairNamesRecover: where only the head is gone, Verify and Repair say so, and what to do.
func TestRepairNamesRecover(t *testing.T) {
	memory := store.NewMemory()
	p := create(t, memory, specOf("10.0.0.0/29"))
	allocate(t, p, pool.Claim{Owner: "a"})
	head, err := memory.Get(t.Context(), store.Key{Kind: store.KindPool, Pool: "blue"})
	require.NoError(t, err)
	damage(t, memory, store.Write{Op: store.Delete, Record: head})
	for _, call := range []func(context.Context) (pool.Report, error){p.Verify, p.Repair} {
		_, err = call(t.Context())
		require.ErrorIs(t, err, pool.ErrNoPool)
		require.ErrorIs(t, err, pool.ErrOrphaned)
	}
}

// TestRecoverCountsWhatIsOutOfRange: with a narrower spec, what is held outside of it stays, and is out of range.
func TestRecoverCountsWhatIsOutOfRange(t *testing.T) {
	memory := beheaded(t, true)
	p, err := pool.Recover(t.Context(), memory, "blue", specOf("10.0.0.1-10.0.0.7"), nil)
	require.NoError(t, err)
	report, err := p.Verify(t.Context())
	require.NoError(t, err)
	require.True(t, report.OK(), "%v", report)
	require.Len(t, report.OutOfRange, 1)
	_, err = p.Get(t.Context(), pool.Held{Owner: "a"})
	require.NoError(t, err)
}

// halfBlind is a store whose lists name a damaged record, which they overlook, at the end.
type halfBlind struct {
	*store.Memory
	damaged string
}

func (s halfBlind) Audit(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		for r, err := range s.List(ctx, kind, pool) {
			if r.Name != s.damaged && !yield(r, err) {
				return
			}
		}
		if kind == store.KindAllocation {
			err := fmt.Errorf("object/%s: %w", s.damaged, store.ErrDamaged)
			yield(store.Record{}, &store.DamagedError{Damaged: []error{err}})
		}
	}
}

// TestRepairKeepsWhatADamagedRecordMayHold: Verify names a record that cannot be read, and finds what is wrong beside
// it; Repair mends that, and frees nothing.
func TestRepairKeepsWhatADamagedRecordMayHold(t *testing.T) {
	memory := store.NewMemory()
	p := create(t, memory, specOf("10.0.0.0/29"))
	for _, owner := range []string{"a", "b"} {
		allocate(t, p, pool.Claim{Owner: owner})
	}
	damage(t, memory, put("x", "10.0.0.5/32"))
	blind, err := pool.Open(t.Context(), halfBlind{memory, "a"}, "blue", nil)
	require.NoError(t, err)
	report, err := blind.Repair(t.Context())
	require.NoError(t, err)
	require.False(t, report.OK())
	require.Len(t, report.Damaged, 1)
	require.Contains(t, report.String(), "object/a")
	require.Equal(t, sorted("leaked 10.0.0.0; unguarded 10.0.0.5"), sorted(found(report)))
	require.Equal(t, 2, report.Allocations)
	report, err = p.Repair(t.Context()) // which can read all, and counts the holders
	require.NoError(t, err)
	require.Equal(t, "miscounted holders: 2 in the head, 3 in the records", found(report))
	requireOK(t, p)
	require.Equal(t, "10.0.0.2", texts(allocate(t, p, pool.Claim{Owner: "c"})))
	_, err = pool.Recover(t.Context(), halfBlind{beheaded(t, true), "a"}, "blue", specOf("10.0.0.0/29"), nil)
	require.ErrorIs(t, err, store.ErrDamaged)
	require.ErrorContains(t, err, "object/a")
}

// TestCorruptRecordIsNamed: a record with data that is none fails neither Verify nor Repair, and its address stays
// taken.
func TestCorruptRecordIsNamed(t *testing.T) {
	memory := store.NewMemory()
	p := create(t, memory, specOf("10.0.0.0/29"))
	for _, owner := range []string{"a", "b"} {
		allocate(t, p, pool.Claim{Owner: owner})
	}
	corrupt := put("a", "10.0.0.0/32")
	corrupt.Record.Data = []byte("7")
	damage(t, memory, corrupt, remove("b"))
	report, err := p.Repair(t.Context())
	require.NoError(t, err)
	require.Len(t, report.Damaged, 1)
	require.ErrorContains(t, report.Damaged[0], "/a")
	require.Equal(t, "leaked 10.0.0.1", found(report))
	require.Equal(t, "10.0.0.2", texts(allocate(t, open(t, memory), pool.Claim{Owner: "c"})), "nothing is freed")
}
