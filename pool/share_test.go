package pool_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// sharing is a claim by a share key, for the default or for these addresses.
func sharing(owner, key string, addrs ...string) pool.Claim {
	c := pool.Claim{Owner: owner, Share: key}
	if len(addrs) > 0 {
		c.Requests = claim(owner, addrs...).Requests
	}
	return c
}

// sharersOf are the owners that hold an address, in the order in which they came.
func sharersOf(t *testing.T, p *pool.Pool, a string) (names []string) {
	t.Helper()
	holders, err := p.Holders(t.Context(), addr(a))
	require.NoError(t, err)
	for _, h := range holders {
		require.Contains(t, h.Addrs(), addr(a))
		names = append(names, h.Owner)
	}
	return names
}

// Owners that name one key hold one address, which counts once, until the last of them has released it.
func TestShare(t *testing.T) {
	spec := specOf("10.0.0.0-10.0.0.3")
	spec.Cooldown = time.Minute
	inMemoryAndStored(t, spec, func(t *testing.T, p *trial) {
		http := allocate(t, p.Pool, sharing("http", "web"))
		https := allocate(t, p.Pool, sharing("https", "web"))
		require.Equal(t, http.Prefixes, https.Prefixes)
		require.NotEqual(t, http.Generation, https.Generation)
		require.Equal(t, "web", https.Share)
		require.Equal(t, https, allocate(t, p.Pool, sharing("https", "web")))
		require.Equal(t, [4]uint64{1, 0, 0, 3}, countsV4(t, p.Pool))
		require.Equal(t, []string{"http", "https"}, sharersOf(t, p.Pool, "10.0.0.0"))
		info, err := p.Info(t.Context())
		require.NoError(t, err)
		require.Equal(t, 2, info.Holders)

		_, err = p.Allocate(t.Context(), claim("other", "10.0.0.0"))
		require.ErrorIs(t, err, pool.ErrTaken)
		require.ErrorContains(t, err, `10.0.0.0/32: taken: it is shared by the key "web"`)
		var failed *pool.Error
		require.ErrorAs(t, err, &failed)
		require.Equal(t, "web", failed.Share)
		_, err = p.Allocate(t.Context(), sharing("other", "mail", "10.0.0.0"))
		require.ErrorIs(t, err, pool.ErrTaken)
		_, err = p.Allocate(t.Context(), sharing("other", "web", "10.0.0.1"))
		require.ErrorIs(t, err, pool.ErrShared)
		require.ErrorContains(t, err, `shared: the key "web" has [10.0.0.0/32], and the claim asks for something else`)
		require.Equal(t, "10.0.0.1", allocate(t, p.Pool, sharing("other", "mail")).Addrs()[0].String())

		release(t, p.Pool, "http")
		require.Equal(t, []string{"https"}, sharersOf(t, p.Pool, "10.0.0.0"))
		require.Equal(t, [4]uint64{2, 0, 0, 2}, countsV4(t, p.Pool), "the first one has gone, and the address is held")
		release(t, p.Pool, "https")
		require.Equal(t, [4]uint64{1, 1, 0, 2}, countsV4(t, p.Pool), "it cools down")
		again := allocate(t, p.Pool, sharing("https", "web"))
		require.Equal(t, http.Prefixes, again.Prefixes, "its last owner gets it back")
		require.Equal(t, []string{"https"}, sharersOf(t, p.Pool, "10.0.0.0"))
		require.Equal(t, again.Prefixes, allocate(t, p.Pool, sharing("http", "web")).Prefixes)
		require.Equal(t, []string{"https", "http"}, sharersOf(t, p.Pool, "10.0.0.0"))
	})
}

// Each owner that shares has a tenure of its own, from when it comes until it leaves. No share is an owner.
func TestSharedTenures(t *testing.T) {
	spec := specOf("10.0.0.0-10.0.0.3")
	spec.History = 24 * time.Hour
	b := stored(t, spec)
	began := b.clock.Now()
	after := func(minutes int) time.Time { return began.Add(time.Duration(minutes) * time.Minute) }
	short := sharing("leased", "web")
	short.TTL = 90 * time.Second
	for _, c := range []pool.Claim{sharing("http", "web"), short, sharing("https", "web")} {
		allocate(t, b.Pool, c)
		b.clock.Add(time.Minute)
	}
	release(t, b.Pool, "http")
	b.clock.Add(time.Minute)
	_, err := b.Expire(t.Context())
	require.NoError(t, err)
	_, err = b.Decline(t.Context(), pool.Held{Owner: "https"}, time.Hour)
	require.NoError(t, err)
	allocate(t, b.Pool, sharing("mail", "web"))

	type past struct {
		owner    string
		from, to time.Time
		end      pool.End
	}
	ask := func(q pool.HistoryQuery) (all []past) {
		for _, tenure := range tenures(t, b.Pool, q) {
			require.Equal(t, "web", tenure.Share)
			all = append(all, past{tenure.Owner, tenure.Created, tenure.To, tenure.End})
		}
		return all
	}
	http := past{"http", began, after(3), pool.Released}
	leased := past{"leased", after(1), began.Add(150 * time.Second), pool.Lapsed}
	https := past{"https", after(2), after(4), pool.Declined}
	at := pool.HistoryQuery{Addr: addr("10.0.0.0")}
	require.Equal(t, []past{http, leased, https}, ask(at))
	require.Equal(t, []past{http, leased, https, {owner: "mail", from: after(4)}}, ask(pool.HistoryQuery{}))
	at.From, at.Until = after(1), after(1)
	require.Equal(t, []past{http, leased}, ask(at))
	require.Equal(t, []past{https}, ask(pool.HistoryQuery{Owner: "https"}))
}

// Who holds an address alone does not share it, and the other way round, but by an exchange in one call.
func TestShareWhatIsHeld(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0-10.0.0.3"), func(t *testing.T, p *trial) {
		allocate(t, p.Pool, pool.Claim{Owner: "http"})
		_, err := p.Allocate(t.Context(), sharing("http", "web"))
		require.ErrorIs(t, err, pool.ErrHeld)
		require.ErrorContains(t, err, `it holds [10.0.0.0/32] by the share key "", and claims by "web"`)
		_, err = p.All(t.Context(), pool.Release(pool.Held{Owner: "http"}), pool.Allocate(sharing("http", "web", "10.0.0.0")),
			pool.Allocate(sharing("https", "web")))
		require.NoError(t, err)
		require.Equal(t, []string{"http", "https"}, sharersOf(t, p.Pool, "10.0.0.0"))
		_, err = p.Allocate(t.Context(), pool.Claim{Owner: "http"})
		require.ErrorIs(t, err, pool.ErrHeld)
		_, err = p.Reserve(t.Context(), pool.Claim{Owner: "http"})
		require.ErrorIs(t, err, pool.ErrHeld)
		reserve(t, p.Pool, claim("kept", "10.0.0.3"))
		_, err = p.Allocate(t.Context(), sharing("kept", "web"))
		require.ErrorIs(t, err, pool.ErrHeld)
	})
}

// An address alone does not say which of several owners is meant.
func TestSharedAddressNamesNobody(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0-10.0.0.3"), func(t *testing.T, p *trial) {
		allocate(t, p.Pool, sharing("http", "web"))
		by := pool.Held{Addr: addr("10.0.0.0")}
		got, err := p.Get(t.Context(), by)
		require.NoError(t, err)
		require.Equal(t, "http", got.Owner)
		allocate(t, p.Pool, sharing("https", "web"))
		_, err = p.Get(t.Context(), by)
		require.ErrorIs(t, err, pool.ErrShared)
		require.ErrorContains(t, err, `the key "web" has 2 owners; name one of them`)
		_, err = p.Release(t.Context(), by)
		require.ErrorIs(t, err, pool.ErrShared)
		_, err = p.All(t.Context(), pool.Release(by))
		require.ErrorIs(t, err, pool.ErrShared)
		by.Owner = "http"
		_, err = p.Release(t.Context(), by)
		require.NoError(t, err)
		by.Owner = ""
		_, err = p.Release(t.Context(), by)
		require.NoError(t, err)
		_, err = p.Holders(t.Context(), by.Addr)
		require.ErrorIs(t, err, pool.ErrNotFound)
		require.Equal(t, [4]uint64{0, 0, 0, 4}, countsV4(t, p.Pool))
	})
}

// Each owner has its own lease: what ends frees the address only if it is the last.
func TestSharedLeases(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0"), func(t *testing.T, p *trial) {
		for i, owner := range []string{"a", "b"} {
			c := sharing(owner, "web")
			c.TTL = time.Duration(i+1) * time.Hour
			allocate(t, p.Pool, c)
		}
		p.clock.Add(time.Hour)
		_, err := p.Allocate(t.Context(), pool.Claim{Owner: "c"})
		require.ErrorIs(t, err, pool.ErrExhausted)
		require.Equal(t, []string{"a", "b"}, sharersOf(t, p.Pool, "10.0.0.0"), "the refused claim has ended nothing")
		n, err := p.Expire(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.Equal(t, []string{"b"}, sharersOf(t, p.Pool, "10.0.0.0"))
		p.clock.Add(time.Hour)
		allocate(t, p.Pool, claim("c", "10.0.0.0"))
		_, err = p.Get(t.Context(), pool.Held{Owner: "b"})
		require.ErrorIs(t, err, pool.ErrNotFound)
	})
}

// Who declines what others share leaves it to them. When the last one does, it goes into quarantine.
func TestDeclineWhatIsShared(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0-10.0.0.3"), func(t *testing.T, p *trial) {
		allocate(t, p.Pool, sharing("a", "web"))
		allocate(t, p.Pool, sharing("b", "web"))
		_, err := p.Decline(t.Context(), pool.Held{Owner: "a"}, time.Hour)
		require.NoError(t, err)
		require.Equal(t, [4]uint64{1, 0, 0, 3}, countsV4(t, p.Pool))
		_, err = p.Decline(t.Context(), pool.Held{Owner: "b"}, time.Hour)
		require.NoError(t, err)
		require.Equal(t, [4]uint64{0, 1, 0, 3}, countsV4(t, p.Pool))
		require.Equal(t, "10.0.0.1", allocate(t, p.Pool, sharing("b", "web")).Addrs()[0].String())
	})
}

// A key is of one scope. Of both families, the pair is shared.
func TestShareScopesAndFamilies(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0-10.0.0.3", "fd00::-fd00::3"), func(t *testing.T, p *trial) {
		blue, red := sharing("a", "web"), sharing("b", "web")
		blue.Scope, red.Scope = "blue", "red"
		require.NotEqual(t, allocate(t, p.Pool, blue).Prefixes, allocate(t, p.Pool, red).Prefixes)
		pair := sharing("c", "dns")
		pair.Policy = pool.RequireDualStack
		first := allocate(t, p.Pool, pair)
		require.Len(t, first.Prefixes, 2)
		pair.Owner = "d"
		require.Equal(t, first.Prefixes, allocate(t, p.Pool, pair).Prefixes)
		_, err := p.Allocate(t.Context(), sharing("e", "dns"))
		require.ErrorIs(t, err, pool.ErrShared, "it asks for one family")
		require.Equal(t, []string{"c", "d"}, sharersOf(t, p.Pool, first.Addrs()[1].String()))
	})
}

// A key has MaxSharers owners at most. One whose lease has ended makes room.
func TestMostSharers(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0-10.0.0.3"), func(t *testing.T, p *trial) {
		var steps []pool.Step
		for i := range pool.MaxSharers {
			c := sharing(fmt.Sprint("owner ", i), "web")
			if i == 7 {
				c.TTL = time.Minute
			}
			steps = append(steps, pool.Allocate(c))
		}
		_, err := p.All(t.Context(), steps...)
		require.NoError(t, err)
		_, err = p.Allocate(t.Context(), sharing("another", "web"))
		require.ErrorIs(t, err, pool.ErrShared)
		require.ErrorContains(t, err, `the key "web" has 256 owners, the most is that`)
		p.clock.Add(time.Minute)
		allocate(t, p.Pool, sharing("another", "web"))
		require.Len(t, sharersOf(t, p.Pool, "10.0.0.0"), pool.MaxSharers)
		require.Equal(t, [4]uint64{1, 0, 0, 3}, countsV4(t, p.Pool))
	})
}

// Keys, and owners that look like records of shares, are refused before anything changes.
func TestShareRules(t *testing.T) {
	p := create(t, store.NewMemory(), specOf("10.0.0.0-10.0.0.3"))
	long := sharing("a", strings.Repeat("k", 800))
	long.Scope = strings.Repeat("s", 300)
	for want, c := range map[string]pool.Claim{
		`the share key "\xff" is not UTF-8`:                                 sharing("a", "\xff"),
		`the share key "a\x00" is not UTF-8`:                                sharing("a", "a\x00"),
		"is 1025 bytes long, the most is 1024":                              sharing("a", strings.Repeat("k", 1025)),
		"and its scope are 1111 bytes long in quotes":                       long,
		`the owner "share \"\" \"web\"" begins as the records of shares do`: {Owner: `share "" "web"`},
	} {
		_, err := p.Allocate(t.Context(), c)
		require.ErrorIs(t, err, pool.ErrInvalid)
		require.ErrorContains(t, err, want)
	}
	_, err := p.Get(t.Context(), pool.Held{Owner: `share "" "web"`})
	require.ErrorIs(t, err, pool.ErrInvalid)
	_, err = p.Reserve(t.Context(), sharing("a", "web"))
	require.ErrorIs(t, err, pool.ErrInvalid)
	require.ErrorContains(t, err, `a reservation is for one owner; the claim of "a" has the share key "web"`)
	_, _, err = pool.Delegate(t.Context(), p, sharing("a", "web"), "child", pool.Spec{}, nil)
	require.ErrorIs(t, err, pool.ErrInvalid)
	require.Equal(t, [4]uint64{0, 0, 0, 4}, countsV4(t, p))
}

// Each owner counts for the quota of its own label.
func TestShareAndQuotas(t *testing.T) {
	spec := specOf("10.0.0.0-10.0.0.3")
	spec.Quotas = []pool.Quota{{Label: "tenant", Addresses: cidr.CountOf(1)}}
	inMemoryAndStored(t, spec, func(t *testing.T, p *trial) {
		for _, owner := range []string{"a", "b"} {
			c := sharing(owner, "web")
			c.Labels = map[string]string{"tenant": owner}
			allocate(t, p.Pool, c)
			c.Owner += "2"
			_, err := p.Allocate(t.Context(), c)
			require.ErrorIs(t, err, pool.ErrQuota)
		}
	})
}

// What is shared keeps its pool from giving up its addresses. What is drained gets no new owners.
func TestShareAndChanges(t *testing.T) {
	s := store.NewMemory()
	p := create(t, s, specOf("10.0.0.0-10.0.0.7"))
	allocate(t, p, sharing("a", "web", "10.0.0.7"))
	allocate(t, p, sharing("b", "web"))
	err := p.Update(t.Context(), specOf("10.0.0.0-10.0.0.3"))
	var failed *pool.Error
	require.ErrorAs(t, err, &failed)
	require.Len(t, failed.Allocations, 2)
	require.NoError(t, p.Drain(t.Context(), specOf("10.0.0.0-10.0.0.3")))
	_, err = p.Allocate(t.Context(), sharing("c", "web"))
	require.ErrorIs(t, err, pool.ErrNotInPool)
	require.ErrorContains(t, err, `the key "web" has [10.0.0.7/32], which is out of range`)
	require.ErrorIs(t, pool.Delete(t.Context(), s, p.Name(), nil), pool.ErrInUse)
	release(t, p, "a")
	release(t, p, "b")
	require.Equal(t, "10.0.0.0", allocate(t, p, sharing("c", "web")).Addrs()[0].String())
	release(t, p, "c")
	require.NoError(t, pool.Delete(t.Context(), s, p.Name(), nil))
	for key := range allRecords(t, s) {
		t.Errorf("%v is left", key)
	}
}

// A snapshot has each owner with its key, and an import of it makes the shares again.
func TestSharesMove(t *testing.T) {
	p := create(t, store.NewMemory(), specOf("10.0.0.0-10.0.0.7"))
	for _, owner := range []string{"z", "a", "m"} {
		allocate(t, p, sharing(owner, "web"))
	}
	snapshot, err := p.Snapshot(t.Context())
	require.NoError(t, err)
	require.Len(t, snapshot.Allocations, 3)
	text, err := json.Marshal(snapshot)
	require.NoError(t, err)
	require.Contains(t, string(text), `"share":"web"`)
	var read pool.Snapshot
	require.NoError(t, json.Unmarshal(text, &read))
	moved, err := pool.Import(t.Context(), store.NewMemory(), "moved", read, nil)
	require.NoError(t, err)
	requireOK(t, moved)
	require.ElementsMatch(t, []string{"a", "m", "z"}, sharersOf(t, moved, "10.0.0.0"))
	allocate(t, moved, sharing("new", "web"))
	for _, owner := range []string{"a", "m", "z", "new"} {
		require.Equal(t, [4]uint64{1, 0, 0, 7}, countsV4(t, moved))
		release(t, moved, owner)
	}
	require.Equal(t, [4]uint64{0, 0, 0, 8}, countsV4(t, moved))

	read.Allocations[1].Prefixes = []netip.Prefix{netip.MustParsePrefix("10.0.0.5/32")}
	_, err = pool.Import(t.Context(), store.NewMemory(), "moved", read, nil)
	require.ErrorIs(t, err, pool.ErrInvalid)
	require.ErrorContains(t, err, `by the key "web", others share`)
	read.Allocations[1].Share = ""
	read.Allocations[1].Prefixes = read.Allocations[0].Prefixes
	_, err = pool.Import(t.Context(), store.NewMemory(), "moved", read, nil)
	require.ErrorIs(t, err, pool.ErrInvalid)
	require.ErrorContains(t, err, "both held, and overlap")
}

// Damage by hand to the record of a share, or to those of its owners, is found and mended.
func TestRepairOfShares(t *testing.T) {
	name := store.Key{Kind: store.KindAllocation, Pool: "blue", Name: `share "" "web"`}
	owner := store.Key{Kind: store.KindAllocation, Pool: "blue", Name: "b"}
	without := func(key store.Key) store.Write { return store.Write{Op: store.Delete, Record: store.Record{Key: key}} }
	for what, spoil := range map[string]func(t *testing.T, s store.Store){
		"the share is gone": func(t *testing.T, s store.Store) { damage(t, s, without(name)) },
		"an owner is gone":  func(t *testing.T, s store.Store) { damage(t, s, without(owner)) },
		"the head is gone":  nil,
		"an owner is listed twice": func(t *testing.T, s store.Store) {
			r, err := s.Get(t.Context(), name)
			require.NoError(t, err)
			r.Data = json.RawMessage(strings.Replace(string(r.Data), `"b"`, `"b","b"`, 1))
			damage(t, s, store.Write{Op: store.Put, Record: r})
		},
	} {
		t.Run(what, func(t *testing.T) {
			s := store.NewMemory()
			p := create(t, s, specOf("10.0.0.0-10.0.0.3"))
			require.Equal(t, "blue", p.Name())
			for _, owner := range []string{"a", "b", "c"} {
				allocate(t, p, sharing(owner, "web"))
			}
			if spoil != nil {
				spoil(t, s)
				p = open(t, s)
				report, err := p.Verify(t.Context())
				require.NoError(t, err)
				require.NotEmpty(t, report.Misshared, "%v", report)
				require.ErrorContains(t, fmt.Errorf("%v", report), "misshared")
				_, err = p.Repair(t.Context())
				require.NoError(t, err)
			} else {
				damage(t, s, without(store.Key{Kind: store.KindPool, Pool: "blue"}), without(name))
				var err error
				p, err = pool.Recover(t.Context(), s, "blue", specOf("10.0.0.0-10.0.0.3"), nil)
				require.NoError(t, err)
			}
			requireOK(t, p)
			allocate(t, p, sharing("d", "web"))
			for _, owner := range sharersOf(t, p, "10.0.0.0") {
				require.Equal(t, [4]uint64{1, 0, 0, 3}, countsV4(t, p))
				release(t, p, owner)
			}
			require.Equal(t, [4]uint64{0, 0, 0, 4}, countsV4(t, p))
			requireOK(t, p)
		})
	}
}

// Several pools are asked: the claim goes to the one that has the key, whatever room others have.
func TestShareInOneOfSeveral(t *testing.T) {
	s := store.NewMemory()
	first := createLabelled(t, s, "first", "10.0.0.0/30", nil)
	second := createLabelled(t, s, "second", "10.0.1.0/24", nil)
	allocate(t, second, sharing("a", "web"))
	got, err := first.All(t.Context(), pool.Allocate(sharing("b", "web")).In(first, second))
	require.NoError(t, err)
	require.Equal(t, second, got[0].Pool)
	allocate(t, first, pool.Claim{Owner: "c"})
	_, err = first.All(t.Context(), pool.Allocate(sharing("c", "web")).In(first, second))
	require.ErrorIs(t, err, pool.ErrHeld)
}

// Two handles whose owners come and go at once never lose count, and the address is free after the last.
func TestShareFromTwoHandlesAtOnce(t *testing.T) {
	s := store.NewMemory()
	handles := []*pool.Pool{create(t, s, specOf("10.0.0.0-10.0.0.63")), open(t, s)}
	var all sync.WaitGroup
	for h, p := range handles {
		for i := range 8 {
			all.Go(func() {
				owner := fmt.Sprint(h, "/", i)
				for n := range 20 {
					a, err := p.Allocate(t.Context(), sharing(owner, fmt.Sprint("key ", n%2)))
					if err != nil {
						t.Errorf("%s: %v", owner, err)
						return
					}
					holders, err := handles[1-h].Holders(t.Context(), a.Addrs()[0])
					if err != nil || len(holders) > 16 {
						t.Errorf("%s: %d holders, %v", owner, len(holders), err)
					}
					for _, other := range holders {
						if other.Share != a.Share {
							t.Errorf("%v is held by %q too, by the key %q", a, other.Owner, other.Share)
						}
					}
					if _, err := p.Release(t.Context(), pool.Held{Owner: owner}); err != nil {
						t.Errorf("%s: %v", owner, err)
					}
				}
			})
		}
	}
	all.Wait()
	require.Equal(t, [4]uint64{0, 0, 0, 64}, countsV4(t, handles[0]))
	requireOK(t, handles[1])
}

// What one call of a commit does to a share, the next ones see, also after another call of that commit that is refused
// half-way.
func TestShareInOneCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		injector := &faults.Injector{}
		p := create(t, injector.Wrap(store.NewMemory()), specOf("10.0.0.0-10.0.0.7"))
		allocate(t, p, sharing("first", "web"))
		injector.ResetCounts()
		injector.Choose = faults.Script(faults.Fault{Delay: time.Second})
		var calls sync.WaitGroup
		all := func(refused bool, claims ...pool.Claim) {
			calls.Go(func() {
				var steps []pool.Step
				for _, c := range claims {
					steps = append(steps, pool.Allocate(c))
				}
				if _, err := p.All(t.Context(), steps...); refused != errors.Is(err, pool.ErrTaken) {
					t.Errorf("%v", err)
				}
			})
			synctest.Wait() // in this order
		}
		all(false, pool.Claim{Owner: "delayed"})
		all(false, sharing("second", "web"), pool.Claim{Owner: "other"})
		all(true, sharing("third", "web"), claim("refused", "10.0.0.0"))
		all(false, sharing("fourth", "web"))
		calls.Wait()
		require.Equal(t, 1+1, injector.Counts().Commit, "one alone, and then the others together")
		require.Equal(t, []string{"first", "second", "fourth"}, sharersOf(t, p, "10.0.0.0"))
		requireOK(t, p)
	})
}
