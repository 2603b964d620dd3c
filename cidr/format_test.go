package cidr_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/cidr"
)

func TestFormatRangeIsShortest(t *testing.T) {
	for _, test := range []struct{ from, to, want string }{
		{"192.0.2.7", "192.0.2.7", "192.0.2.7"},
		{"192.0.2.0", "192.0.2.255", "192.0.2.0/24"},
		{"192.0.2.4", "192.0.2.5", "192.0.2.4/31"},
		{"192.0.2.5", "192.0.2.6", "192.0.2.5-192.0.2.6"},
		{"192.0.2.1", "192.0.2.254", "192.0.2.1-192.0.2.254"},
		{"0.0.0.0", "255.255.255.255", "0.0.0.0/0"},
		{"::", "::", "::"},
		{"::", "::1", "::/127"},
		{"::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::/0"},
		{"2001:db8:0:0::1", "2001:db8::ff", "2001:db8::1-2001:db8::ff"},
		{"2001:db8::", "2001:db8::ffff:ffff:ffff:ffff", "2001:db8::/64"},
	} {
		assert.Equal(t, test.want, cidr.FormatRange(span(test.from, test.to)))
	}
}

func TestFormattedRangesReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := ranges(rapid.Bool().Draw(t, "is4")).
			Filter(func(r netipx.IPRange) bool { return !r.From().Is4In6() && !r.To().Is4In6() }).Draw(t, "range")
		text := cidr.FormatRange(r)
		requireFormatted(t, r)
		require.LessOrEqual(t, len(text), len(r.From().String()+"-"+r.To().String()))
	})
}

func TestFormattedSetsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, _ := sets(t, "set")
		texts := cidr.FormatSet(s)
		again, err := cidr.ParseSet(texts...)
		require.NoError(t, err)
		require.True(t, s.Equal(again), "%q", texts)
		require.Len(t, texts, len(s.Ranges()))
		require.Equal(t, texts, cidr.FormatSet(again))
	})
}

func TestFormatSet(t *testing.T) {
	s := cidr.SetOf(span("fd00::1", "fd00::2"), span("10.0.0.4", "10.0.0.7"),
		span("10.0.0.0", "10.0.0.3"), span("10.0.0.9", "10.0.0.9"))
	assert.Equal(t, []string{"10.0.0.0/29", "10.0.0.9", "fd00::1-fd00::2"}, cidr.FormatSet(s))
}
