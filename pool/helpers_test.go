package pool_test

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

func addr(text string) netip.Addr     { return netip.MustParseAddr(text) }
func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

func ranges(texts ...string) []netipx.IPRange {
	var out []netipx.IPRange
	for _, text := range texts {
		r, err := cidr.ParseRange(text)
		if err != nil {
			panic(err)
		}
		out = append(out, r)
	}
	return out
}

func setOf(texts ...string) *netipx.IPSet { return cidr.SetOf(ranges(texts...)...) }

// specOf is a pool of these ranges, all of whose addresses may be handed out.
func specOf(texts ...string) pool.Spec {
	spec := everyAddress()
	spec.Ranges = ranges(texts...)
	return spec
}

// everyAddress is a spec without ranges, of which every address may be handed out.
func everyAddress() pool.Spec { return reserving(false) }

// reserving is a spec without ranges, whose subnets reserve addresses or not.
func reserving(reserve bool) pool.Spec {
	f := pool.FamilySpec{AllocateReserved: !reserve}
	return pool.Spec{IPv4: f, IPv6: f}
}

// claim asks for exact prefixes.
func claim(owner string, exact ...string) pool.Claim {
	c := pool.Claim{Owner: owner}
	for _, text := range exact {
		if strings.Contains(text, "/") {
			c.Requests = append(c.Requests, pool.Request{Exact: prefix(text)})
		} else {
			c.Requests = append(c.Requests, pool.ExactAddr(addr(text)))
		}
	}
	return c
}

func create(t testing.TB, s store.Store, spec pool.Spec) *pool.Pool {
	t.Helper()
	p, err := pool.Create(t.Context(), s, "blue", spec, nil)
	require.NoError(t, err)
	return p
}

func open(t testing.TB, s store.Store) *pool.Pool {
	t.Helper()
	p, err := pool.Open(t.Context(), s, "blue", nil)
	require.NoError(t, err)
	return p
}

func allocate(t testing.TB, p *pool.Pool, c pool.Claim) pool.Allocation {
	t.Helper()
	a, err := p.Allocate(t.Context(), c)
	require.NoError(t, err)
	return a
}

func release(t testing.TB, p *pool.Pool, owner string) pool.Allocation {
	t.Helper()
	a, err := p.Release(t.Context(), pool.Held{Owner: owner})
	require.NoError(t, err)
	return a
}

// texts are the prefixes of an allocation as text, single addresses without their length.
func texts(a pool.Allocation) string {
	var out []string
	for _, p := range a.Prefixes {
		if p.IsSingleIP() {
			out = append(out, p.Addr().String())
		} else {
			out = append(out, p.String())
		}
	}
	return strings.Join(out, " ")
}

func requireOK(t require.TestingT, p *pool.Pool) {
	report, err := p.Verify(context.Background())
	require.NoError(t, err)
	require.True(t, report.OK(), "%v", report)
}

// hooked is a store with functions called before and after its calls. A hook may use the store, and is not called from
// within a hook.
type hooked struct {
	store.Store
	mu           sync.Mutex
	inside       bool
	beforeGet    func(store.Key)
	afterGet     func(store.Key) error
	beforeCommit func(head store.Record, writes []store.Write) error
	afterCommit  func(head store.Record, writes []store.Write, err error) error
}

// call calls a hook, once at a time, unless it is nil.
func (h *hooked) call(hook func() error) error {
	h.mu.Lock()
	if h.inside {
		h.mu.Unlock()
		return nil
	}
	h.inside = true
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		h.inside = false
		h.mu.Unlock()
	}()
	return hook()
}

func (h *hooked) Get(ctx context.Context, key store.Key) (store.Record, error) {
	if h.beforeGet != nil {
		_ = h.call(func() error { h.beforeGet(key); return nil })
	}
	r, err := h.Store.Get(ctx, key)
	if h.afterGet != nil {
		if bad := h.call(func() error { return h.afterGet(key) }); bad != nil {
			return store.Record{}, bad
		}
	}
	return r, err
}

func (h *hooked) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	head, writes := changes[0].Head, changes[0].Writes
	if h.beforeCommit != nil {
		if bad := h.call(func() error { return h.beforeCommit(head, writes) }); bad != nil {
			return nil, bad
		}
	}
	heads, err := h.Store.Commit(ctx, changes...)
	if h.afterCommit != nil {
		if bad := h.call(func() error { return h.afterCommit(head, writes, err) }); bad != nil {
			return nil, bad
		}
	}
	return heads, err
}
