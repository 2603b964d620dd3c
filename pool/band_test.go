package pool_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

func banded(exclusive bool, strategy pool.Strategy) pool.Spec {
	spec := specOf("10.0.0.0/29", "2001:db8::/126")
	spec.Strategy = strategy
	spec.Bands = []pool.Band{{Name: "static", Ranges: ranges("10.0.0.0-10.0.0.2"), Exclusive: exclusive}}
	return spec
}

func inBand(owner, band string) pool.Claim {
	return pool.Claim{Owner: owner, Requests: []pool.Request{{Band: band}}}
}

func TestDynamicClaimsUseABandLast(t *testing.T) {
	for _, strategy := range everyStrategy {
		t.Run("strategy="+string(strategy), func(t *testing.T) {
			inMemoryAndStored(t, banded(false, strategy), func(t *testing.T, b *trial) {
				band := setOf("10.0.0.0-10.0.0.2")
				for i := range 8 {
					a := allocate(t, b.another(t), pool.Claim{Owner: fmt.Sprint(i)})
					require.Equal(t, i >= 5, band.Contains(a.Addrs()[0]), "%d: %v", i, a.Addrs()[0])
				}
				_, err := b.Allocate(t.Context(), pool.Claim{Owner: "late"})
				require.ErrorIs(t, err, pool.ErrExhausted)
			})
		})
	}
}

func TestDynamicClaimsNeverUseAnExclusiveBand(t *testing.T) {
	for _, strategy := range everyStrategy {
		t.Run("strategy="+string(strategy), func(t *testing.T) {
			inMemoryAndStored(t, banded(true, strategy), func(t *testing.T, b *trial) {
				for i := range 5 {
					a := allocate(t, b.another(t), pool.Claim{Owner: fmt.Sprint(i)})
					require.False(t, setOf("10.0.0.0-10.0.0.2").Contains(a.Addrs()[0]))
				}
				_, err := b.Allocate(t.Context(), pool.Claim{Owner: "late"})
				var exhausted *pool.Error
				require.ErrorAs(t, err, &exhausted)
				require.True(t, exhausted.Limited)
				require.Equal(t, uint64(3), exhausted.Free.Uint64(), "but they are not for this claim")
				require.ErrorContains(t, err, "in the part of the pool that was asked for")
				_, err = b.Allocate(t.Context(),
					pool.Claim{Owner: "late", Requests: []pool.Request{{Bits: 31, Within: setOf("10.0.0.0/31")}}})
				require.ErrorIs(t, err, pool.ErrExhausted, "nor by a set")
				require.Equal(t, "10.0.0.1", texts(allocate(t, b.Pool, claim("exact", "10.0.0.1"))), "but by an exact request")
			})
		})
	}
}

func TestExplicitClaimsUseTheBandFirst(t *testing.T) {
	for _, exclusive := range []bool{false, true} {
		inMemoryAndStored(t, banded(exclusive, pool.LowestFree), func(t *testing.T, b *trial) {
			for i := range 8 { // when the band is full they get what any claim gets
				require.Equal(t, fmt.Sprintf("10.0.0.%d", i), texts(allocate(t, b.another(t), inBand(fmt.Sprint(i), "static"))))
			}
		})
	}
}

func TestBandWithinASetAndOfAFamily(t *testing.T) {
	inMemoryAndStored(t, banded(true, pool.LowestFree), func(t *testing.T, b *trial) {
		within := pool.Claim{Owner: "within", Requests: []pool.Request{{Band: "static", Within: setOf("10.0.0.2-10.0.0.4")}}}
		require.Equal(t, "10.0.0.2", texts(allocate(t, b.Pool, within)))
		dual := pool.Claim{Owner: "dual", Policy: pool.RequireDualStack, Requests: []pool.Request{{Band: "static"}}}
		require.Equal(t, "10.0.0.0 2001:db8::", texts(allocate(t, b.Pool, dual)), "a family without a band is used as ever")
		again := allocate(t, b.another(t), pool.Claim{Owner: "dual", Policy: pool.RequireDualStack})
		require.Equal(t, "10.0.0.0 2001:db8::", texts(again), "what is held answers, whichever band it is in")
		_, err := b.Allocate(t.Context(), inBand("x", "strange"))
		require.ErrorIs(t, err, pool.ErrInvalid)
		require.ErrorContains(t, err, `"strange"`)
	})
}

func TestSeveralBands(t *testing.T) {
	spec := specOf("10.0.0.0/29")
	spec.Bands = []pool.Band{
		{Name: "last", Ranges: ranges("10.0.0.0-10.0.0.1")},
		{Name: "never", Ranges: ranges("10.0.0.2", "10.0.0.4"), Exclusive: true},
	}
	inMemoryAndStored(t, spec, func(t *testing.T, b *trial) {
		for i, want := range []string{"10.0.0.3", "10.0.0.5", "10.0.0.6", "10.0.0.7", "10.0.0.0", "10.0.0.1"} {
			require.Equal(t, want, texts(allocate(t, b.Pool, pool.Claim{Owner: fmt.Sprint(i)})))
		}
		for _, want := range []string{"10.0.0.2", "10.0.0.4"} {
			require.Equal(t, want, texts(allocate(t, b.Pool, inBand(want, "never"))))
		}
	})
}

func TestBandsThatBreakARule(t *testing.T) {
	band := func(name string, texts ...string) pool.Band { return pool.Band{Name: name, Ranges: ranges(texts...)} }
	for name, bands := range map[string][]pool.Band{
		"without a name":          {band("", "10.0.0.1")},
		"without ranges":          {band("a")},
		"outside of the ranges":   {band("a", "10.0.1.0/24")},
		"partly outside":          {band("a", "10.0.0.200-10.0.1.3")},
		"of a family that is not": {band("a", "2001:db8::1")},
		"two of one name":         {band("a", "10.0.0.1"), band("a", "10.0.0.2")},
		"two that overlap":        {band("a", "10.0.0.1-10.0.0.9"), band("b", "10.0.0.9")},
	} {
		spec := specOf("10.0.0.0/24")
		spec.Bands = bands
		_, err := pool.New(spec, nil)
		require.ErrorIs(t, err, pool.ErrInvalid, name)
	}
}

// Kubernetes keeps min(max(16, size/16), 256) addresses for static use. The documentation of Kubernetes has the first
// three: for 10.96.0.0/24 the band is 10.96.0.1 to 10.96.0.16, for /20 and /16 it is 10.96.0.1 to 10.96.1.0. A range of
// 16 addresses or fewer is not divided.
func TestServiceBand(t *testing.T) {
	for services, want := range map[string]string{
		"10.96.0.0/24":     "10.96.0.1-10.96.0.16",
		"10.96.0.0/20":     "10.96.0.1-10.96.1.0",
		"10.96.0.0/16":     "10.96.0.1-10.96.1.0",
		"10.96.0.0/12":     "10.96.0.1-10.96.1.0",
		"10.96.0.0/21":     "10.96.0.1-10.96.0.128",
		"10.96.0.0/23":     "10.96.0.1-10.96.0.32",
		"10.96.0.0/25":     "10.96.0.1-10.96.0.16",
		"192.168.1.0/27":   "192.168.1.1-192.168.1.16",
		"192.168.1.77/27":  "192.168.1.65-192.168.1.80", // host bits do not matter
		"192.168.1.0/28":   "",
		"192.168.1.0/29":   "",
		"192.168.1.0/30":   "",
		"192.168.1.0/32":   "",
		"2001:db8:1::/112": "2001:db8:1::1-2001:db8:1::100",
		"2001:db8:1::/64":  "2001:db8:1::1-2001:db8:1::100",
		"2001:db8:1::/108": "2001:db8:1::1-2001:db8:1::100",
		"fd00::/120":       "fd00::1-fd00::10",
		"fd00::/124":       "",
	} {
		band, ok := pool.ServiceBand(prefix(services))
		require.Equal(t, want != "", ok, services)
		if ok {
			require.Equal(t, want, cidr.FormatRange(band), services)
		}
	}
	_, ok := pool.ServiceBand(prefix("0.0.0.0/0").Masked())
	require.True(t, ok)
}

// The range of a Service CIDR with its band, as a cluster has it.
func TestServiceBandOfAPool(t *testing.T) {
	spec, err := pool.ParseSpec("10.96.0.0/27")
	require.NoError(t, err)
	band, ok := pool.ServiceBand(prefix("10.96.0.0/27"))
	require.True(t, ok)
	spec.Bands = []pool.Band{{Name: "static", Ranges: ranges(cidr.FormatRange(band))}}
	inMemoryAndStored(t, spec, func(t *testing.T, b *trial) {
		require.Equal(t, "10.96.0.17", texts(allocate(t, b.Pool, pool.Claim{Owner: "dynamic"})))
		require.Equal(t, "10.96.0.10", texts(allocate(t, b.Pool, claim("dns", "10.96.0.10"))))
		for i := range 13 {
			allocate(t, b.Pool, pool.Claim{Owner: fmt.Sprint(i)})
		}
		require.Equal(t, "10.96.0.1", texts(allocate(t, b.Pool, pool.Claim{Owner: "last"})), "when the rest is full")
	})
}
