package cidr_test

import (
	"encoding/json"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/cidr"
)

// top is the largest Count, 2^192-1.
var top = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 192), big.NewInt(1))

// clamp is what a Count makes of a number that it may not be able to hold.
func clamp(n *big.Int) *big.Int {
	switch {
	case n.Sign() < 0:
		return new(big.Int)
	case n.Cmp(top) > 0:
		return top
	}
	return n
}

// countOf returns n, which fits, as a Count, without the decimal code.
func countOf(n *big.Int) cidr.Count {
	var c cidr.Count
	for i := range n.BitLen() {
		if n.Bit(i) == 1 {
			c = c.Add(cidr.Pow2(i))
		}
	}
	return c
}

// numbers draws integers from 0 to 2^192-1, many of them near a power of two.
func numbers() *rapid.Generator[*big.Int] {
	word := rapid.OneOf(rapid.Uint64(), rapid.Uint64Range(0, 2), rapid.Uint64Range(math.MaxUint64-2, math.MaxUint64))
	return rapid.Custom(func(t *rapid.T) *big.Int {
		n := new(big.Int)
		for range rapid.IntRange(0, 3).Draw(t, "words") {
			n.Lsh(n, 64)
			n.Add(n, new(big.Int).SetUint64(word.Draw(t, "word")))
		}
		return n
	})
}

func TestCountAgreesWithBigIntegers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, y := numbers().Draw(t, "x"), numbers().Draw(t, "y")
		a, b := countOf(x), countOf(y)

		assert.Equal(t, x.String(), a.String(), "String")
		assert.Equal(t, clamp(new(big.Int).Add(x, y)).String(), a.Add(b).String(), "Add")
		assert.Equal(t, clamp(new(big.Int).Sub(x, y)).String(), a.Sub(b).String(), "Sub")
		assert.Equal(t, x.Cmp(y), a.Cmp(b), "Cmp")
		assert.Equal(t, x.Cmp(y) == 0, a == b, "==")
		assert.Equal(t, x.Sign() == 0, a.IsZero(), "IsZero")
		if x.IsUint64() {
			assert.Equal(t, x.Uint64(), a.Uint64(), "Uint64")
			assert.Equal(t, a, cidr.CountOf(x.Uint64()), "CountOf")
		} else {
			assert.Equal(t, uint64(math.MaxUint64), a.Uint64(), "Uint64 saturates")
		}

		text, err := a.MarshalText()
		require.NoError(t, err)
		var back cidr.Count
		require.NoError(t, back.UnmarshalText(text))
		assert.Equal(t, a, back, "text round trip")
	})
}

func TestShiftsAgreeWithBigIntegers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := numbers().Draw(t, "x")
		n := rapid.OneOf(rapid.IntRange(0, 200), rapid.SampledFrom([]int{63, 64, 128, 191, 192, 1000})).Draw(t, "n")
		left, right := clamp(new(big.Int).Lsh(x, uint(n))).String(), new(big.Int).Rsh(x, uint(n)).String()
		assert.Equal(t, left, countOf(x).Lsh(n).String(), "Lsh")
		assert.Equal(t, left, countOf(x).Rsh(-n).String(), "Rsh by less than 0")
		assert.Equal(t, right, countOf(x).Rsh(n).String(), "Rsh")
		assert.Equal(t, right, countOf(x).Lsh(-n).String(), "Lsh by less than 0")
	})
}

func TestShiftsByAnyInt(t *testing.T) {
	one, largest := cidr.CountOf(1), cidr.Pow2(192)
	for _, n := range []int{192, math.MaxInt - 1, math.MaxInt} {
		assert.Equal(t, largest, one.Lsh(n))
		assert.Equal(t, largest, one.Rsh(-n))
		assert.Equal(t, cidr.Count{}, largest.Rsh(n))
		assert.Equal(t, cidr.Count{}, largest.Lsh(-n))
		assert.Equal(t, cidr.Count{}, cidr.Count{}.Lsh(n))
		assert.Equal(t, cidr.Count{}, cidr.Count{}.Rsh(n))
	}
	assert.Equal(t, cidr.Count{}, largest.Lsh(math.MinInt))
	assert.Equal(t, largest, one.Rsh(math.MinInt))
}

func TestDivAgreesWithBigIntegers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, y := numbers().Draw(t, "x"), numbers().Draw(t, "y")
		if rapid.Bool().Draw(t, "near a multiple") {
			x = new(big.Int).Mul(y, big.NewInt(rapid.Int64Range(1, 1000).Draw(t, "times")))
			x = clamp(x.Add(x, big.NewInt(rapid.Int64Range(-1, 1).Draw(t, "more"))))
		}
		quotient, remainder := countOf(x).Div(countOf(y))
		wantQuotient, wantRemainder := new(big.Int), x
		if y.Sign() != 0 {
			wantQuotient, wantRemainder = new(big.Int).QuoRem(x, y, new(big.Int))
		}
		assert.Equal(t, wantQuotient.String(), quotient.String(), "quotient")
		assert.Equal(t, wantRemainder.String(), remainder.String(), "remainder")
	})
}

func TestDivByZero(t *testing.T) {
	for _, c := range []cidr.Count{{}, cidr.CountOf(7), cidr.Pow2(192)} {
		quotient, remainder := c.Div(cidr.Count{})
		assert.Equal(t, cidr.Count{}, quotient)
		assert.Equal(t, c, remainder)
	}
}

func TestPow2(t *testing.T) {
	for bits := range 192 {
		assert.Equal(t, new(big.Int).Lsh(big.NewInt(1), uint(bits)).String(), cidr.Pow2(bits).String(), "2^%d", bits)
	}
	for _, bits := range []int{192, 193, 256, math.MaxInt} {
		assert.Equal(t, top.String(), cidr.Pow2(bits).String(), "2^%d", bits)
	}
	for _, bits := range []int{-1, -64, math.MinInt} {
		assert.True(t, cidr.Pow2(bits).IsZero(), "2^%d", bits)
	}
}

func TestCountOfAllAddresses(t *testing.T) {
	all := cidr.Pow2(128).Add(cidr.Pow2(32))
	assert.Equal(t, "340282366920938463463374607436063178752", all.String())
	assert.Equal(t, cidr.Pow2(32), all.Sub(cidr.Pow2(128)))
	assert.Equal(t, uint64(math.MaxUint64), all.Uint64())
}

func TestCountSaturates(t *testing.T) {
	largest := cidr.Pow2(192)
	assert.Equal(t, top.String(), largest.String())
	assert.Equal(t, largest, largest.Add(cidr.CountOf(1)))
	assert.Equal(t, largest, largest.Add(largest))
	assert.Equal(t, cidr.Count{}, cidr.CountOf(1).Sub(cidr.CountOf(2)))
	assert.Equal(t, cidr.Count{}, cidr.Count{}.Sub(largest))
	assert.Equal(t, uint64(math.MaxUint64), cidr.CountOf(math.MaxUint64).Uint64())
	assert.Equal(t, uint64(math.MaxUint64), cidr.Pow2(64).Uint64())
}

func TestCountSorts(t *testing.T) {
	counts := []cidr.Count{cidr.Pow2(128), cidr.CountOf(7), cidr.Pow2(64), {}}
	slices.SortFunc(counts, cidr.Count.Cmp)
	assert.Equal(t, []cidr.Count{{}, cidr.CountOf(7), cidr.Pow2(64), cidr.Pow2(128)}, counts)
}

func TestCountInJSON(t *testing.T) {
	type status struct {
		Free cidr.Count `json:"free"`
		Used cidr.Count `json:"used,omitzero"`
	}
	text, err := json.Marshal(status{Free: cidr.Pow2(64)})
	require.NoError(t, err)
	assert.JSONEq(t, `{"free":"18446744073709551616"}`, string(text))

	var back status
	require.NoError(t, json.Unmarshal(text, &back))
	assert.Equal(t, status{Free: cidr.Pow2(64)}, back)
}

func TestCountRefusesText(t *testing.T) {
	tooLarge := new(big.Int).Add(top, big.NewInt(1)).String()
	for _, test := range []struct{ text, rule, want string }{
		{"", "a count has at least one digit", `"256"`},
		{" 1", "only the digits 0 to 9", `"256"`},
		{"1 ", "only the digits 0 to 9", `"256"`},
		{"-1", "only the digits 0 to 9", `"256"`},
		{"+1", "only the digits 0 to 9", `"256"`},
		{"1e3", "only the digits 0 to 9", `"256"`},
		{"0x10", "only the digits 0 to 9", `"256"`},
		{"1_000", "only the digits 0 to 9", `"256"`},
		{"٣", "only the digits 0 to 9", `"256"`},
		{"00", "no leading zeros", `"256"`},
		{"007", "no leading zeros", `"256"`},
		{tooLarge, "less than 2^192", top.String()},
		{strings.Repeat("9", 1000), "less than 2^192", top.String()},
	} {
		t.Run(test.text, func(t *testing.T) {
			c := cidr.CountOf(5)
			requireRefused(t, c.UnmarshalText([]byte(test.text)), test.text, test.rule, test.want)
			assert.Equal(t, cidr.CountOf(5), c, "unchanged")
		})
	}
	var c cidr.Count
	require.NoError(t, c.UnmarshalText([]byte(top.String())))
	assert.Equal(t, cidr.Pow2(192), c)
}

func FuzzCountText(f *testing.F) {
	for _, text := range []string{
		"", "0", "00", "7", "18446744073709551615", "18446744073709551616", top.String(), top.String() + "0", "-1", "1 ",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var c cidr.Count
		err := c.UnmarshalText([]byte(text))

		n, isNumber := new(big.Int).SetString(text, 10)
		right := isNumber && n.String() == text && n.Sign() >= 0 && n.Cmp(top) <= 0
		require.Equal(t, right, err == nil, "%q: %v", text, err)
		if err != nil {
			requireRefused(t, err, text, "a count", "")
			require.True(t, c.IsZero())
			return
		}
		require.Equal(t, text, c.String())
	})
}
