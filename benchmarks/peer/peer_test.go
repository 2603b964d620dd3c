package peer_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/benchmarks/peer"
)

// TestPeersAreRight hands out all of small spaces with every peer.
func TestPeersAreRight(t *testing.T) {
	shapes := []peer.Shape{
		peer.Addresses("10.0.0.0/24"), peer.Addresses("10.0.0.0/16"), peer.Addresses("2001:db8::/120"),
		peer.Prefixes("10.0.0.0/16", 24), peer.Prefixes("2001:db8::/48", 56),
	}
	for _, p := range peer.All() {
		done := 0
		for _, s := range shapes {
			if p.NewSpace == nil || s.Prefix.Bits() == 16 && s.Single() && p.Name != peer.Floor {
				continue
			}
			t.Run(fmt.Sprintf("%s/%v into %d", p.Name, s.Prefix, s.Bits), func(t *testing.T) {
				err := p.Check(s)
				if errors.Is(err, peer.ErrCannot) {
					t.Skip(err)
				}
				require.NoError(t, err)
				done++
			})
		}
		require.True(t, done > 0 || p.Absent != "", "%s was not checked", p.Name)
	}
}

func TestPeersAreRightWhenFilled(t *testing.T) {
	shape := peer.Addresses("10.0.0.0/16")
	var held []netip.Prefix
	for i := range 500 {
		held = append(held, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 7), byte(i<<1 | 1)}), 32))
	}
	for _, p := range peer.All() {
		if p.NewSpace == nil || p.Name == "Kubernetes cidrset" {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			space, err := p.NewSpace(shape)
			require.NoError(t, err)
			require.NoError(t, space.Fill(t.Context(), held))
			require.NoError(t, p.CheckFilled(space, shape, held, 32))
			for _, h := range held {
				require.NoError(t, space.Release(h))
			}
		})
	}
}

func TestSnapshots(t *testing.T) {
	for _, p := range peer.All() {
		if p.NewSpace == nil {
			continue
		}
		space, err := p.NewSpace(peer.Addresses("10.0.0.0/16"))
		if s, ok := space.(peer.Snapshotter); ok && err == nil {
			_, err = space.Take(32)
			require.NoError(t, err)
			n, err := s.Snapshot()
			require.NoError(t, err, p.Name)
			require.Positive(t, n, p.Name)
		}
	}
}

func TestOwners(t *testing.T) {
	prefix := netip.MustParsePrefix("10.0.0.0/16")
	for _, p := range peer.All() {
		if p.NewOwners != nil {
			pool, err := p.NewOwners(prefix)
			require.NoError(t, err)
			require.NoError(t, peer.CheckOwners(t.Context(), p.Name, pool, prefix))
		}
	}
}

// wrong is a peer with a flaw.
type wrong struct {
	next  byte
	flaw  string
	freed []netip.Prefix
}

func (w *wrong) Take(bits int) (netip.Prefix, error) {
	if len(w.freed) > 0 {
		p := w.freed[0]
		w.freed = w.freed[1:]
		return p, nil
	}
	if w.next == 16 {
		return netip.Prefix{}, errors.New("exhausted")
	}
	w.next++
	p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, w.next - 1}), bits)
	switch {
	case w.flaw == "twice" && w.next == 5:
		return netip.MustParsePrefix("10.0.0.0/32"), nil
	case w.flaw == "outside" && w.next == 5:
		return netip.MustParsePrefix("10.0.1.0/32"), nil
	case w.flaw == "order" && w.next <= 2:
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, 2 - w.next}), bits), nil
	case w.flaw == "few" && w.next == 10:
		return netip.Prefix{}, errors.New("exhausted")
	}
	return p, nil
}

func (w *wrong) Release(p netip.Prefix) error {
	if w.flaw != "lost" {
		w.freed = append(w.freed, p)
	}
	if w.flaw == "doubled" {
		w.freed = append(w.freed, p)
	}
	return nil
}

func (w *wrong) Fill(context.Context, []netip.Prefix) error { return nil }

// TestCheckFinds shows that the check sees what is wrong.
func TestCheckFinds(t *testing.T) {
	for flaw, want := range map[string]string{
		"": "", "twice": "twice", "outside": "no /32 of", "order": "order is",
		"few": "9 of 16", "lost": "not all can be taken",
		"doubled": "which is held",
	} {
		t.Run(flaw, func(t *testing.T) {
			p := peer.Peer{
				Name: "wrong", Order: peer.Lowest,
				NewSpace: func(peer.Shape) (peer.Space, error) { return &wrong{flaw: flaw}, nil },
			}
			err := p.Check(peer.Addresses("10.0.0.0/28"))
			if want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, want)
			}
		})
	}
	p := peer.Peer{Name: "wrong", Order: peer.Lowest}
	shape := peer.Addresses("10.0.0.0/28")
	held := []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}
	require.ErrorContains(t, p.CheckFilled(&wrong{next: 1}, shape, held, 32), "not a free /32")
	require.ErrorContains(t, p.CheckFilled(&wrong{next: 3}, shape, held, 32), "10.0.0.2/32 is free")
	require.NoError(t, p.CheckFilled(&wrong{next: 2}, shape, held, 32))
}

func TestFillForesees(t *testing.T) {
	p := peer.All()[0]
	space, err := p.NewSpace(peer.Addresses("10.0.0.0/8"))
	require.NoError(t, err)
	held := make([]netip.Prefix, 1<<20)
	for i := range held {
		held[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1 + byte(i>>16), byte(i >> 8), byte(i)}), 32)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	require.ErrorIs(t, space.Fill(ctx, held), peer.ErrSlow)
}

func TestEachEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := 0
	err := peer.Each(ctx, make([]int, 20), func(int) error {
		if done++; done == 3 {
			cancel()
		}
		return nil
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 3, done)
}
