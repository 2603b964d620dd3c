package view_test

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/pool/view"
	"github.com/ipalloc/ipalloc/store"
)

// somePool draws a small pool with some of everything, and with allocations that a change has left out of range.
func somePool(t *rapid.T) pool.Snapshot {
	ctx := context.Background()
	addr := rapid.Custom(func(t *rapid.T) netip.Addr {
		return netip.AddrFrom4([4]byte{10, 0, byte(rapid.IntRange(0, 3).Draw(t, "third")), rapid.Byte().Draw(t, "fourth")})
	})
	someRange := rapid.Custom(func(t *rapid.T) netipx.IPRange {
		a, b := addr.Draw(t, "from"), addr.Draw(t, "to")
		if b.Less(a) {
			a, b = b, a
		}
		return netipx.IPRangeFrom(a, b)
	})
	spec := pool.Spec{
		Ranges:   rapid.SliceOfN(someRange, 1, 3).Draw(t, "ranges"),
		Exclude:  rapid.SliceOfN(someRange, 0, 1).Draw(t, "exclude"),
		Cooldown: time.Hour,
	}
	if rapid.Bool().Draw(t, "with a subnet") {
		spec.Subnets = []pool.Subnet{{Prefix: netip.MustParsePrefix("10.0.0.0/22"), Gateway: addr.Draw(t, "gateway")}}
	}
	p, err := pool.Create(ctx, store.NewMemory(), "p", spec, &pool.Options{Clock: clock})
	if err != nil {
		t.Skip("nothing is left of the pool: ", err)
	}
	for i := range rapid.IntRange(0, 60).Draw(t, "claims") {
		owner := fmt.Sprint("owner-", i)
		request := pool.Request{Bits: rapid.IntRange(27, 32).Draw(t, "bits")}
		if rapid.Bool().Draw(t, "exact") {
			request = pool.ExactAddr(addr.Draw(t, "address"))
		}
		call := p.Allocate
		if rapid.IntRange(0, 5).Draw(t, "reserve") == 0 {
			call = p.Reserve
		}
		a, err := call(ctx, pool.Claim{Owner: owner, Requests: []pool.Request{request}})
		if err == nil && !a.Kept && rapid.IntRange(0, 3).Draw(t, "release") == 0 {
			_, err := p.Release(ctx, pool.Held{Owner: owner})
			require.NoError(t, err)
		}
	}
	changed := spec
	changed.Exclude = append(slices.Clone(spec.Exclude), rapid.SliceOfN(someRange, 0, 1).Draw(t, "exclude more")...)
	_ = p.Drain(ctx, changed) // if something would be left
	s, err := p.Snapshot(ctx)
	require.NoError(t, err)
	return s
}

// classOf says what an address is, in the simplest way.
func classOf(s *pool.Snapshot, addr netip.Addr) string {
	holds := func(list []pool.Allocation) bool {
		return slices.ContainsFunc(list, func(a pool.Allocation) bool {
			return slices.ContainsFunc(a.Prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
		})
	}
	within := func(ranges []netipx.IPRange) bool {
		return slices.ContainsFunc(ranges, func(r netipx.IPRange) bool { return r.Contains(addr) })
	}
	isGateway := slices.ContainsFunc(s.Spec.Subnets, func(n pool.Subnet) bool { return n.Gateway == addr })
	allowed := s.Spec.Set(pool.IPv4).Contains(addr) && !within(s.Withheld)
	switch held, cools, kept := holds(s.Allocations), holds(s.Cooling), holds(s.Kept); {
	case (held || cools || kept) && !allowed:
		return "out of range"
	case held:
		return "taken"
	case cools:
		return "cooling"
	case kept:
		return "kept"
	case isGateway:
		return "gateway"
	case !within(s.Spec.Ranges):
		return "not in the pool"
	case allowed:
		return "free"
	case within(s.Spec.Exclude):
		return "excluded"
	case within(s.Withheld):
		return "external"
	default:
		return "reserved"
	}
}

// With a cell for each address, each is exactly of the class that it should be.
func TestEachAddressIsOfOneClass(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := somePool(t)
		shown := 0
		for _, d := range view.Draw(s, 128*128) {
			for i, p := range d.Panels {
				require.InDelta(t, 1, d.CellSizes[i], 0)
				addr := p.Addr()
				for _, parts := range d.Cells[i] {
					require.Equal(t, map[string]float64{classOf(&s, addr): 1}, parts, "%v", addr)
					addr = addr.Next()
					shown++
				}
			}
		}
		require.NotZero(t, shown)
		for _, a := range slices.Concat(s.Allocations, s.Cooling, s.Kept) {
			require.True(t, slices.ContainsFunc(view.Draw(s, 64)[0].Panels, func(p netip.Prefix) bool {
				return p.Contains(a.Prefixes[0].Addr())
			}))
		}
	})
}

// The counts are those of the pool, and the cells, however many addresses each stands for, add up to them.
func TestCellsAddUpToTheCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := somePool(t)
		maxCells := rapid.SampledFrom([]int{12, 16, 64, 100, 1024, 16384}).Draw(t, "cells")
		for _, d := range view.Draw(s, maxCells) {
			stats := s.StatsOf(d.Family)
			require.Equal(t, stats.Used.Add(stats.Cooling).Add(stats.Kept).Add(stats.OutOfRange),
				d.Counts["taken"].Add(d.Counts["cooling"]).Add(d.Counts["kept"]).Add(d.Counts["out of range"]))
			require.Equal(t, stats.Used, d.Counts["taken"])
			require.Equal(t, stats.Cooling, d.Counts["cooling"])
			require.Equal(t, stats.Kept, d.Counts["kept"])
			require.Equal(t, stats.Free, d.Counts["free"])

			cells, sums := 0, map[string]float64{}
			for i := range d.Panels {
				for _, parts := range d.Cells[i] {
					whole := 0.0
					for class, part := range parts {
						whole += part
						sums[class] += part * d.CellSizes[i]
					}
					require.InDelta(t, 1, whole, 1e-9)
				}
				cells += len(d.Cells[i])
			}
			require.LessOrEqual(t, cells, maxCells)
			for class, count := range d.Counts {
				require.InDelta(t, float64(count.Uint64()), sums[class], 1e-6, class)
			}
		}
	})
}

// rect is a block of an SVG.
type rect struct {
	Class  string `xml:"class,attr"`
	Width  int    `xml:"width,attr"`
	Height int    `xml:"height,attr"`
	Title  string `xml:"title"`
}

// svgOf draws a pool, checks that it is XML, and returns the document and the blocks of its maps.
func svgOf(t require.TestingT, s pool.Snapshot, o *view.Options) (string, []rect) {
	var b, again bytes.Buffer
	require.NoError(t, view.SVG(&b, s, o))
	require.NoError(t, view.SVG(&again, s, o))
	require.Equal(t, b.String(), again.String(), "the same snapshot gives the same document")
	var document struct {
		XMLName xml.Name `xml:"http://www.w3.org/2000/svg svg"`
		Panels  []struct {
			Groups []struct {
				Rects []rect `xml:"rect"`
			} `xml:"g"`
		} `xml:"g"`
	}
	require.NoError(t, xml.Unmarshal(b.Bytes(), &document))
	decoder := xml.NewDecoder(bytes.NewReader(b.Bytes()))
	decoder.Strict = true
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if element, ok := token.(xml.StartElement); ok {
			require.Contains(t, []string{"svg", "title", "desc", "style", "defs", "pattern", "path", "rect", "g", "text"},
				element.Name.Local)
		}
	}
	var rects []rect
	for _, panel := range document.Panels {
		for _, group := range panel.Groups {
			rects = append(rects, group.Rects...)
		}
	}
	return b.String(), rects
}

// What is drawn: with a cell for each address, the area of each class is its count.
func TestAreasAreTheCounts(t *testing.T) {
	styles := map[string]string{
		"t": "taken", "f": "free", "c": "cooling", "p": "kept", "w": "out of range", "g": "gateway",
		"r": "reserved", "e": "excluded", "n": "external", "o": "not in the pool",
	}
	rapid.Check(t, func(t *rapid.T) {
		s := somePool(t)
		d := view.Draw(s, 128*128)[0]
		if len(d.Panels) > 1 {
			t.Skip("cells of several sizes")
		}
		_, rects := svgOf(t, s, &view.Options{MaxCells: 128 * 128})
		areas, sum := map[string]int{}, 0
		for _, r := range rects {
			areas[styles[strings.Fields(r.Class)[0]]] += r.Width * r.Height
			sum += r.Width * r.Height
		}
		cell := sum / len(d.Cells[0])
		for class, count := range d.Counts {
			require.Equal(t, int(count.Uint64()), areas[class]/cell, class)
		}
	})
}

// A few of 2^64 addresses show, in the colour of what is held.
func TestSparseIPv6Shows(t *testing.T) {
	s := must(sparse64(t, store.NewMemory(), "v6").Snapshot(t.Context()))
	_, rects := svgOf(t, s, nil)
	taken := 0
	for _, r := range rects {
		if strings.Contains(r.Title, ": 1 taken, ") {
			taken++
			require.Equal(t, "t s1", r.Class)
			require.GreaterOrEqual(t, r.Width, 4)
		}
	}
	require.Equal(t, 4, taken)
	var text strings.Builder
	require.NoError(t, view.Text(&text, s, nil))
	require.Equal(t, 4, strings.Count(text.String(), "░░"))
}

// The work is bounded by cells and records: a /8 with a few held, and all of IPv6, take no time and little space.
func TestCostDoesNotDependOnAddresses(t *testing.T) {
	for _, text := range []string{"10.0.0.0/8", "::/0", "2000::/3"} {
		p, err := pool.New(must(pool.ParseSpec(text)), nil)
		require.NoError(t, err)
		for i := range 100 {
			_, err := p.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprint(i)})
			require.NoError(t, err)
		}
		document, rects := svgOf(t, must(p.Snapshot(t.Context())), nil)
		require.Less(t, len(rects), 100)
		require.Less(t, len(document), 40_000)
	}
}

// Ranges that are far apart are drawn apart, those that are near on one map, and there is an end to it.
func TestPanels(t *testing.T) {
	for _, test := range []struct {
		ranges []string
		want   []string
	}{
		{[]string{"192.0.2.0/24"}, []string{"192.0.2.0/24"}},
		{[]string{"192.0.2.10-192.0.2.20"}, []string{"192.0.2.0/27"}},
		{[]string{"192.0.2.0/24", "192.0.3.0/24"}, []string{"192.0.2.0/23"}},
		{[]string{"10.0.0.0/24", "10.0.9.0/24"}, []string{"10.0.0.0/20"}},
		{[]string{"10.0.0.0/24", "10.77.0.0/24"}, []string{"10.0.0.0/24", "10.77.0.0/24"}},
		{[]string{"10.0.255.250-10.1.0.5"}, []string{"10.0.255.248/29", "10.1.0.0/29"}},
		{[]string{"2001:db8::/64", "2001:db8:ffff::/64"}, []string{"2001:db8::/64", "2001:db8:ffff::/64"}},
		{[]string{"0.0.0.0/0"}, []string{"0.0.0.0/0"}},
		{[]string{"192.0.2.7"}, []string{"192.0.2.7/32"}},
	} {
		s := pool.Snapshot{Info: pool.Info{Spec: pool.Spec{Ranges: must(cidr.ParseRanges(test.ranges...))}}}
		var got []string
		for _, p := range view.Draw(s, 4096)[0].Panels {
			got = append(got, p.String())
		}
		require.Equal(t, test.want, got)
	}
	var many []string
	for i := range 200 {
		many = append(many, fmt.Sprintf("10.%d.%d.0/28", i, i*7%256))
	}
	d := view.Draw(pool.Snapshot{Info: pool.Info{Spec: pool.Spec{Ranges: must(cidr.ParseRanges(many...))}}}, 4096)[0]
	require.Len(t, d.Panels, 12)
}

// Colours follow from the values, and are kept when others come.
func TestColoursAreStable(t *testing.T) {
	colourOf := func(teams ...string) string {
		p, err := pool.New(must(pool.ParseSpec("192.0.2.0/24")), nil)
		require.NoError(t, err)
		for i, team := range teams {
			_, err := p.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprint(i), Labels: map[string]string{"team": team}})
			require.NoError(t, err)
		}
		_, rects := svgOf(t, must(p.Snapshot(t.Context())), &view.Options{Label: "team"})
		for _, r := range rects {
			if r.Title == "192.0.2.1 taken: 0" {
				return r.Class
			}
		}
		return ""
	}
	alone := colourOf("web")
	require.Regexp(t, `^k[0-7]$`, alone)
	require.Equal(t, alone, colourOf("web", "mail", "db"))
	var all []string
	for i := range 40 {
		all = append(all, "team-"+strconv.Itoa(i))
	}
	require.Regexp(t, `^k\d$`, colourOf(all...), "more values than colours")
}

func TestNoAddressIsLostInHugeRanges(t *testing.T) {
	spec := pool.Spec{Ranges: must(cidr.ParseRanges("2001:db8::/32"))}
	d := view.Draw(pool.Snapshot{Info: pool.Info{Spec: spec}}, 4096)[0]
	sum := 0.0
	for _, parts := range d.Cells[0] {
		sum += parts["free"] + parts["reserved"]
	}
	require.InDelta(t, 4096, sum, 1e-9)
	require.InDelta(t, math.Ldexp(1, 84), d.CellSizes[0], 0)
}
