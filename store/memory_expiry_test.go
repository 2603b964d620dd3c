package store_test

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

var epoch = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

func lease(name string, second int) store.Record {
	r := store.Record{Key: store.Key{Kind: store.KindAllocation, Pool: "a", Name: name}}
	if second > 0 {
		r.Expires = epoch.Add(time.Duration(second) * time.Second)
	}
	return r
}

// expiring returns what r is in the order of a list by expiry, with the name, since those of the same time come in any
// order.
func expiring(r store.Record) string {
	return fmt.Sprint(r.Expires.Unix(), " ", r.Name, " ", r.Revision)
}

// TestExpiryIterationsStayAsTheyBegan changes records at random while iterations are under way, each of which must
// yield what there was when it began.
func TestExpiryIterationsStayAsTheyBegan(t *testing.T) {
	type iteration struct {
		next func() (string, bool)
		stop func()
		want []string
	}
	rapid.Check(t, func(t *rapid.T) {
		ctx, s := context.Background(), store.NewMemory()
		head := store.Record{Key: store.Key{Kind: store.KindPool, Pool: "a"}}
		model := map[string]store.Record{}
		var running []iteration
		defer func() {
			for _, i := range running {
				i.stop()
			}
		}()
		ordered := func() (all []string) {
			for _, r := range model {
				if !r.Expires.IsZero() {
					all = append(all, expiring(r))
				}
			}
			slices.Sort(all)
			return all
		}
		change := func(t *rapid.T, op store.Op, r store.Record) {
			var err error
			head, err = storetest.CommitOne(ctx, s, head, store.Write{Op: op, Record: r})
			require.NoError(t, err)
			if r.Revision = head.Revision; op == store.Delete {
				delete(model, r.Name)
			} else {
				model[r.Name] = r
			}
		}
		name := rapid.StringMatching("[a-e][a-e]")
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				change(t, store.Put, lease(name.Draw(t, "name"), rapid.IntRange(0, 9).Draw(t, "second")))
			},
			"delete": func(t *rapid.T) { change(t, store.Delete, lease(name.Draw(t, "name"), 0)) },
			"begin": func(t *rapid.T) {
				next, stop := pull(s.ByExpiry(ctx, store.KindAllocation, "a"))
				want := ordered()
				if len(want) > 0 { // an iteration begins when its first record is asked for
					got, ok := next()
					require.True(t, ok)
					require.Equal(t, want[0], got)
					want = want[1:]
				}
				running = append(running, iteration{next, stop, want})
			},
			"go on": func(t *rapid.T) {
				if len(running) == 0 {
					t.Skip("none")
				}
				i := &running[rapid.IntRange(0, len(running)-1).Draw(t, "iteration")]
				if len(i.want) == 0 {
					return
				}
				got, ok := i.next()
				require.True(t, ok)
				require.Equal(t, i.want[0], got)
				i.want = i.want[1:]
			},
			"end": func(t *rapid.T) {
				if len(running) == 0 {
					t.Skip("none")
				}
				n := rapid.IntRange(0, len(running)-1).Draw(t, "iteration")
				running[n].stop()
				running = slices.Delete(running, n, n+1)
			},
			"": func(t *rapid.T) {
				var got []string
				for r, err := range s.ByExpiry(ctx, store.KindAllocation, "a") {
					require.NoError(t, err)
					got = append(got, expiring(r))
				}
				require.Equal(t, ordered(), got)
			},
		})
	})
}

// pull is iter.Pull2 for what is expected to have no errors.
func pull(records func(func(store.Record, error) bool)) (next func() (string, bool), stop func()) {
	return iter.Pull(func(yield func(string) bool) {
		for r, err := range records {
			text := expiring(r)
			if err != nil {
				text = err.Error()
			}
			if !yield(text) {
				return
			}
		}
	})
}

// TestManyRenewals renews a hundred thousand leases, in turn and out of turn, and takes the first few between. It takes
// about a second; were the index a list, or a tree that does not balance itself, it would take minutes.
func TestManyRenewals(t *testing.T) {
	const leases = 100_000
	ctx, s := t.Context(), store.NewMemory()
	head := store.Record{Key: store.Key{Kind: store.KindPool, Pool: "a"}}
	renew := func(i, second int) {
		next, err := storetest.CommitOne(ctx, s, head, store.Write{Op: store.Put, Record: lease(fmt.Sprint(i), second)})
		require.NoError(t, err)
		head = next
	}
	deadline := time.Now().Add(5 * time.Minute)
	for round := 1; round <= 3; round++ {
		for i := range leases {
			renew(i, round*leases+i)
			if round > 1 && i%10 == 0 {
				for r, err := range s.ByExpiry(ctx, store.KindAllocation, "a") {
					require.NoError(t, err)
					require.Equal(t, fmt.Sprint((i+1)%leases), r.Name)
					break
				}
			}
		}
		require.True(t, time.Now().Before(deadline), "renewing costs more than a logarithm")
	}
}
