package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
)

var errCrashed = errors.New("the process has crashed")

// What happens to the call at which a process stops.
type crash int

const (
	before crash = iota // the call is not done
	after               // it is done, and the process does not learn of it
	late                // it is done when another process has looked at the heads
	blip                // it is done, its answer is lost, and the process goes on
	drop                // it is not done, its answer is lost, and the process goes on
	slow                // it is done after others have touched the heads, and the process goes on
)

var crashes = []crash{before, after, late, blip, drop}

// crashing is a plain store of a process that stops at its n-th call.
type crashing struct {
	inner   store.Store
	left    int
	how     crash
	pending func() // what is to land late

	meanwhile func() // what others do when the process is slow
}

// step does a call unless the process has crashed.
func (c *crashing) step(commit bool, do func() error) error {
	c.left--
	switch {
	case c.left > 0 || c.left < 0 && c.how >= blip:
		return do()
	case c.how == slow:
		c.meanwhile()
		return do()
	case c.left < 0:
		return errCrashed
	}
	lost := errCrashed
	if commit {
		lost = fmt.Errorf("%w: %w", store.ErrUnknown, errCrashed)
	}
	switch {
	case !commit && (c.how == blip || c.how == drop):
		return do()
	case c.how == after || c.how == blip:
		_ = do()
	case c.how == late && commit:
		c.pending = func() { _ = do() }
	}
	return lost
}

func (c *crashing) Get(ctx context.Context, key store.Key) (r store.Record, err error) {
	err = c.step(false, func() error {
		r, err = c.inner.Get(ctx, key)
		return err
	})
	return r, err
}

func (c *crashing) List(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	return c.inner.List(ctx, kind, pool)
}

func (c *crashing) Commit(_ context.Context, head store.Record, writes []store.Write) (r store.Record, err error) {
	err = c.step(true, func() error {
		r, err = c.inner.Commit(context.Background(), head, writes)
		return err
	})
	return r, err
}

func (c *crashing) Close() error { return nil }

// plain hides what a store can beside the contract.
func plain(s store.Store) store.Store { return struct{ store.Store }{s} }

// impatient is how long tests let others go on with their commits.
const impatient = 2 * time.Millisecond

func impatiently(s store.Store) store.SeveralStore {
	return store.SeveralWith(plain(s), store.SeveralOptions{Patience: impatient})
}

func headOf(pool string) store.Record {
	return store.Record{Key: store.Key{Kind: store.KindPool, Pool: pool}}
}

func recordOf(pool, name string) store.Record {
	return store.Record{Key: store.Key{Kind: store.KindAllocation, Pool: pool, Name: name}}
}

// scene is a store with heads a, b and d and a record beside each, and a commit that replaces a and b, creates c and deletes d.
func scene(t *testing.T) (*store.Memory, []store.Change) {
	t.Helper()
	s := store.NewMemory()
	heads := map[string]store.Record{}
	for _, pool := range []string{"a", "b", "d"} {
		head := headOf(pool)
		head.Data = json.RawMessage(`"<before>"`)
		done, err := s.Commit(t.Context(), head, []store.Write{{Op: store.Create, Record: recordOf(pool, "old")}})
		require.NoError(t, err)
		heads[pool] = done
	}
	changed := func(pool string) store.Record {
		head, ok := heads[pool]
		if !ok {
			head = headOf(pool)
		}
		head.Data = json.RawMessage(`"<after>"`)
		return head
	}
	beside := func(pool string) []store.Write {
		r := recordOf(pool, "new")
		r.Expires = epoch
		return []store.Write{{Op: store.Create, Record: r}, {Op: store.Delete, Record: recordOf(pool, "old")}}
	}
	return s, []store.Change{
		{Head: changed("d"), Writes: append(beside("d"), store.Write{Op: store.Delete, Record: headOf("d")})},
		{Head: changed("b"), Writes: beside("b")},
		{Head: changed("a"), Writes: beside("a")},
		{Head: changed("c"), Writes: beside("c")},
	}
}

// happened reports whether the scene's commit has taken effect, as another process sees it that touches the heads in some order, and fails
// unless all of it has or nothing.
func happened(t *testing.T, s store.SeveralStore, order []string) bool {
	t.Helper()
	ctx := t.Context()
	seen := map[string]bool{}
	for _, pool := range order {
		head, err := s.Get(ctx, headOf(pool).Key)
		switch {
		case errors.Is(err, store.ErrNotFound):
			seen[pool] = pool == "d"
			require.Contains(t, "c d", pool)
		default:
			require.NoError(t, err)
			require.Empty(t, head.State)
			seen[pool] = string(head.Data) == `"<after>"`
			require.True(t, seen[pool] || string(head.Data) == `"<before>"`, "%s", head.Data)
		}
	}
	all := seen[order[0]]
	for _, pool := range order {
		require.Equal(t, all, seen[pool], "head %s is not as head %s", pool, order[0])
		_, err := s.Get(ctx, recordOf(pool, "new").Key)
		require.Equal(t, all, err == nil, "the record beside head %s: %v", pool, err)
		_, err = s.Get(ctx, recordOf(pool, "old").Key)
		require.Equal(t, !all && pool != "c", err == nil, "the old record beside head %s: %v", pool, err)
	}
	return all
}

// nothingLeft expects that no head is prepared and no mark is there.
func nothingLeft(t *testing.T, s *store.Memory) {
	t.Helper()
	for _, kind := range []store.Kind{store.KindPool, store.KindTransaction} {
		for r, err := range s.List(t.Context(), kind, "") {
			require.NoError(t, err)
			require.Empty(t, r.State, "%v is left: %s", r.Key, r.Data)
			require.NotEqual(t, store.KindTransaction, r.Kind)
		}
	}
}

// orders are all orders of the scene's heads.
func orders() (all [][]string) {
	var extend func(done, left []string)
	extend = func(done, left []string) {
		if len(left) == 0 {
			all = append(all, slices.Clone(done))
		}
		for i, next := range left {
			extend(append(slices.Clone(done), next), append(slices.Clone(left[:i]), left[i+1:]...))
		}
	}
	extend(nil, []string{"a", "b", "c", "d"})
	return all
}

// TestSeveralCrashesAtEachStep stops a coordinator at each of its calls, in each way, and has another process touch the heads in each order.
func TestSeveralCrashesAtEachStep(t *testing.T) {
	t.Parallel()
	outcomes := map[string]int{}
	for _, how := range crashes {
		for step := 1; ; step++ {
			ended := false
			for _, order := range orders() {
				shared, changes := scene(t)
				process := &crashing{inner: shared, left: step, how: how}
				heads, err := store.SeveralWith(process, store.SeveralOptions{Patience: impatient}).CommitSeveral(t.Context(), changes)
				ended = process.left > 0
				other := impatiently(shared.Open())
				done := happened(t, other, order)
				if process.pending != nil {
					process.pending()
					require.Equal(t, done, happened(t, other, order), "a late commit has changed the outcome")
				}
				nothingLeft(t, shared)
				outcomes[fmt.Sprint(done)]++
				switch {
				case err == nil:
					require.True(t, done)
					for i, head := range heads {
						got, err := other.Get(t.Context(), head.Key)
						if i == 0 {
							require.ErrorIs(t, err, store.ErrNotFound)
							continue
						}
						require.NoError(t, err)
						require.Equal(t, got, head)
					}
				case !errors.Is(err, store.ErrUnknown) && how != before && how != after && how != late:
					require.False(t, done, "a commit that failed took effect: %v", err)
				}
				if (how == blip || how == drop) && err != nil { // one lost answer is not too much, but for the revision of what is deleted
					require.ErrorIs(t, err, store.ErrUnknown)
					require.ErrorContains(t, err, "head pool/d", "step %d", step)
					require.True(t, done)
				}
			}
			if ended {
				break
			}
			require.Less(t, step, 100)
		}
	}
	require.Positive(t, outcomes["true"])
	require.Positive(t, outcomes["false"])
}

// TestSeveralOutlastsASlowCoordinator has another process touch the heads, in each order, or the first of them only, while the coordinator is about to do each of its calls. What
// that process saw stays so.
func TestSeveralOutlastsASlowCoordinator(t *testing.T) {
	t.Parallel()
	outcomes := map[string]int{}
	for step, ended := 1, false; !ended; step++ {
		for i, order := range orders() {
			shared, changes := scene(t)
			other, touched := impatiently(shared.Open()), order
			if i%2 == 0 {
				touched = order[:1]
			}
			process, seen := &crashing{inner: shared, left: step, how: slow}, false
			process.meanwhile = func() { seen = happened(t, other, touched) }
			_, err := store.SeveralWith(process, store.SeveralOptions{Patience: impatient}).CommitSeveral(t.Context(), changes)
			ended = process.left > 0
			done := happened(t, other, order)
			require.True(t, done || !seen, "step %d: the effect was seen, and is gone", step)
			switch {
			case errors.Is(err, store.ErrUnknown):
			case err == nil:
				require.True(t, done)
			default:
				require.ErrorIs(t, err, store.ErrConflict)
				require.False(t, done)
			}
			nothingLeft(t, shared)
			outcomes[fmt.Sprint(seen, done)]++
		}
		require.Less(t, step, 100)
	}
	require.Positive(t, outcomes["true true"])
	require.Positive(t, outcomes["false true"])
	require.Positive(t, outcomes["false false"])
}

// TestSeveralIsResolvedByEveryMethod meets prepared heads through each method, before and after the commit point.
func TestSeveralIsResolvedByEveryMethod(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	touches := map[string]func(s store.SeveralStore, changes []store.Change) error{
		"list": func(s store.SeveralStore, _ []store.Change) (err error) {
			for r, listErr := range s.List(ctx, store.KindPool, "") {
				if err = errors.Join(err, listErr); r.State != "" {
					return fmt.Errorf("%v is prepared", r.Key)
				}
			}
			return err
		},
		"watch": func(s store.SeveralStore, changes []store.Change) error {
			for _, c := range changes {
				r, err := store.Watch(ctx, s, c.Head.Key, 999, time.Millisecond)
				if err != nil && !errors.Is(err, store.ErrNotFound) || r.State != "" {
					return fmt.Errorf("%v has state %q: %w", c.Head.Key, r.State, err)
				}
			}
			return nil
		},
		"commit": func(s store.SeveralStore, changes []store.Change) error {
			for _, c := range changes {
				stale := c.Head
				stale.Revision = 999
				_, err := s.Commit(ctx, stale, nil)
				var conflict *store.ConflictError
				if !errors.As(err, &conflict) || conflict.Current.State != "" {
					return fmt.Errorf("the conflict is %w", err)
				}
			}
			return nil
		},
		"exists": func(s store.SeveralStore, changes []store.Change) error {
			for _, c := range changes {
				_, err := s.Commit(ctx, headOf("aside"), []store.Write{{Op: store.Create, Record: headOf(c.Head.Pool)}})
				var exists *store.ExistsError
				if errors.As(err, &exists) && exists.Records[0].State != "" {
					return fmt.Errorf("the record in the way is %+v", exists.Records[0])
				}
			}
			return nil
		},
		"several": func(s store.SeveralStore, changes []store.Change) error {
			mine := []store.Change{{Head: headOf("z")}}
			for _, c := range changes {
				head, err := s.Get(ctx, c.Head.Key)
				if err != nil {
					head = headOf(c.Head.Pool)
				}
				mine = append(mine, store.Change{Head: head})
			}
			_, err := s.CommitSeveral(ctx, mine)
			return err
		},
	}
	for name, touch := range touches {
		for step := 9; step <= 20; step++ {
			shared, changes := scene(t)
			process := &crashing{inner: shared, left: step}
			_, _ = store.SeveralWith(process, store.SeveralOptions{Patience: impatient}).CommitSeveral(ctx, changes)
			require.NoError(t, touch(impatiently(shared.Open()), changes), "%s after a crash at step %d", name, step)
			for r, err := range shared.List(ctx, store.KindPool, "") {
				require.NoError(t, err)
				require.NotEqual(t, "prepared", r.State, "%s after a crash at step %d left %v", name, step, r.Key)
			}
		}
	}
}

// TestSeveralCoordinatorsAtOnce has processes that stop at random moments move amounts between heads, while others read: the sum stays.
func TestSeveralCoordinatorsAtOnce(t *testing.T) {
	t.Parallel()
	ctx, shared := t.Context(), store.NewMemory()
	pools := []string{"a", "b", "c", "d", "e"}
	for _, pool := range pools {
		head := headOf(pool)
		head.Data = json.RawMessage("0")
		_, err := shared.Commit(ctx, head, nil)
		require.NoError(t, err)
	}
	amount := func(r store.Record) (n int) {
		_ = json.Unmarshal(r.Data, &n)
		return n
	}
	move := func(s store.SeveralStore, random *rand.Rand) error {
		var changes []store.Change
		order := random.Perm(len(pools))[:2+random.IntN(3)]
		for i, at := range order {
			head, err := s.Get(ctx, headOf(pools[at]).Key)
			if err != nil {
				return err
			}
			add := 1
			if i == 0 {
				add = 1 - len(order)
			}
			head.Data = json.RawMessage(fmt.Sprint(amount(head) + add))
			changes = append(changes, store.Change{Head: head})
		}
		_, err := s.CommitSeveral(ctx, changes)
		return err
	}
	var all sync.WaitGroup
	committed := make([]int, 4)
	for i := range committed {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			for range 150 {
				process := &crashing{inner: shared.Open(), left: 1 + random.IntN(60), how: crashes[random.IntN(len(crashes))]}
				s := store.SeveralWith(process, store.SeveralOptions{Patience: impatient})
				for range 5 {
					if err := move(s, random); err == nil {
						committed[i]++
					} else if errors.Is(err, errCrashed) {
						break
					}
				}
				if process.pending != nil {
					process.pending()
				}
			}
		})
	}
	all.Wait()
	s, total := impatiently(shared.Open()), 0
	for _, pool := range pools {
		head, err := s.Get(ctx, headOf(pool).Key)
		require.NoError(t, err)
		total += amount(head)
	}
	require.Zero(t, total)
	for _, n := range committed {
		require.Positive(t, n)
	}
	nothingLeft(t, shared)
}

// few is a store that takes at most three writes in a commit.
type few struct{ store.Store }

func (f few) Commit(ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
	if len(writes) > 3 {
		return store.Record{}, &store.TooLargeError{What: "writes in a commit", Size: int64(len(writes)), Limit: 3}
	}
	return f.Store.Commit(ctx, head, writes)
}

// TestSeveralWithMoreWritesThanFit gives the last head, and then the first, more writes than the store takes at once. After the commit point
// they are done in parts; before it, nothing is.
func TestSeveralWithMoreWritesThanFit(t *testing.T) {
	many := func(pool string) (writes []store.Write) {
		for i := range 13 {
			writes = append(writes, store.Write{Op: store.Create, Record: recordOf(pool, fmt.Sprint(i))})
		}
		return writes
	}
	for crashAt := 0; crashAt < 20; crashAt++ {
		shared := store.NewMemory()
		process := &crashing{inner: few{shared}, left: crashAt, how: after}
		if crashAt == 0 {
			process.left = 1000
		}
		several := store.SeveralWith(process, store.SeveralOptions{Patience: impatient})
		heads, err := several.CommitSeveral(t.Context(), []store.Change{{Head: headOf("b"), Writes: many("b")}, {Head: headOf("a")}})
		other := impatiently(few{shared})
		head, getErr := other.Get(t.Context(), headOf("b").Key)
		if crashAt == 0 {
			require.NoError(t, err)
			require.Equal(t, heads[0], head)
		}
		for i := range 13 {
			_, err := other.Get(t.Context(), recordOf("b", fmt.Sprint(i)).Key)
			require.Equal(t, getErr == nil, err == nil, "crash at %d: record %d: %v", crashAt, i, err)
		}
		_, err = other.Get(t.Context(), headOf("a").Key)
		require.Equal(t, getErr == nil, err == nil)
		nothingLeft(t, shared)
	}

	shared := store.NewMemory()
	_, err := impatiently(few{shared}).CommitSeveral(t.Context(), []store.Change{{Head: headOf("a"), Writes: many("a")}, {Head: headOf("b")}})
	require.ErrorIs(t, err, store.ErrTooLarge)
	for _, kind := range []store.Kind{store.KindPool, store.KindAllocation, store.KindTransaction} {
		for r := range shared.List(t.Context(), kind, "") {
			require.Fail(t, "something is left", "%v", r.Key)
		}
	}
}
