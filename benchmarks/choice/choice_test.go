package choice_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/benchmarks/choice"
)

func TestList(t *testing.T) {
	var got []string
	set := choice.List(&got, "a", "b")
	require.NoError(t, set("b,a"))
	require.Equal(t, []string{"b", "a"}, got)
	for text, wrong := range map[string]string{"a,c": `"c"`, "": `""`} {
		require.EqualError(t, set(text), wrong+" is none of a, b")
	}
}

func TestPairs(t *testing.T) {
	got, err := choice.Pairs("1x16,16x1", "hands", "fingers")
	require.NoError(t, err)
	require.Equal(t, [][2]int{{1, 16}, {16, 1}}, got)
	for _, text := range []string{"", "1", "1x", "0x1", "1x-1", "1x1,"} {
		_, err := choice.Pairs(text, "hands", "fingers")
		require.ErrorContains(t, err, "is not a number of hands, x, and a number of fingers", text)
	}
}
