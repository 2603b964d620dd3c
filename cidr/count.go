package cidr

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"strconv"
)

// Count is a number of addresses or prefixes, from 0 to 2^192-1. All IPv6 and IPv4 addresses together are only
// 2^128+2^32, so the sum of many sizes is exact too. Arithmetic saturates: a result below 0 is 0, and a result above
// 2^192-1 is 2^192-1.
//
// The zero value is 0. Counts may be copied, compared with == and used as map keys. All methods except
// [Count.UnmarshalText] are safe for concurrent use. A method takes constant time unless it says otherwise.
type Count struct {
	hi, mid, lo uint64
}

// countBits is the size of a Count in bits.
const countBits = 192

// maxCount is the largest Count.
var maxCount = Count{math.MaxUint64, math.MaxUint64, math.MaxUint64}

// CountOf returns n as a Count.
func CountOf(n uint64) Count { return Count{lo: n} }

// Count128 returns hi·2^64 + lo.
func Count128(hi, lo uint64) Count { return Count{mid: hi, lo: lo} }

// Pow2 returns 2^bits, the number of addresses in a prefix with that many host bits. The result is 0 if bits is
// negative, and the largest Count, 2^192-1, if bits is 192 or more.
func Pow2(bits int) Count {
	switch {
	case bits < 0:
		return Count{}
	case bits >= countBits:
		return maxCount
	}
	return CountOf(1).shl(bits)
}

// Add returns c+d, or 2^192-1 if the sum is larger.
func (c Count) Add(d Count) Count {
	lo, carry := bits.Add64(c.lo, d.lo, 0)
	mid, carry := bits.Add64(c.mid, d.mid, carry)
	hi, carry := bits.Add64(c.hi, d.hi, carry)
	if carry != 0 {
		return maxCount
	}
	return Count{hi, mid, lo}
}

// Sub returns c-d, or 0 if d is larger than c.
func (c Count) Sub(d Count) Count {
	lo, borrow := bits.Sub64(c.lo, d.lo, 0)
	mid, borrow := bits.Sub64(c.mid, d.mid, borrow)
	hi, borrow := bits.Sub64(c.hi, d.hi, borrow)
	if borrow != 0 {
		return Count{}
	}
	return Count{hi, mid, lo}
}

// Cmp returns -1 if c is less than d, 0 if they are equal, and 1 if c is greater. Count.Cmp is a compare
// function for [slices.SortFunc].
func (c Count) Cmp(d Count) int {
	return cmp.Or(cmp.Compare(c.hi, d.hi), cmp.Compare(c.mid, d.mid), cmp.Compare(c.lo, d.lo))
}

// Uint64 returns c, or [math.MaxUint64] if c is larger.
func (c Count) Uint64() uint64 {
	if c.hi != 0 || c.mid != 0 {
		return math.MaxUint64
	}
	return c.lo
}

// BitLen returns the number of bits needed to represent c, from 0 for 0 to 192.
func (c Count) BitLen() int {
	switch {
	case c.hi != 0:
		return 128 + bits.Len64(c.hi)
	case c.mid != 0:
		return 64 + bits.Len64(c.mid)
	}
	return bits.Len64(c.lo)
}

// Low returns the lowest n bits of c, which is c modulo 2^n. The result is 0 if n is negative, and c if n is 192 or
// more.
func (c Count) Low(n int) Count {
	switch {
	case n <= 0:
		return Count{}
	case n >= countBits:
		return c
	}
	mask := Pow2(n).Sub(CountOf(1))
	return Count{c.hi & mask.hi, c.mid & mask.mid, c.lo & mask.lo}
}

// Lsh returns c shifted left by n bits, which is c·2^n. A negative n shifts right.
func (c Count) Lsh(n int) Count {
	switch {
	case n < 0:
		return c.shr(-max(n, -countBits))
	case c.IsZero():
		return c
	case n > countBits-c.BitLen():
		return maxCount
	}
	return c.shl(n)
}

// Rsh returns c shifted right by n bits, which is c/2^n rounded down. A negative n shifts left.
func (c Count) Rsh(n int) Count { return c.Lsh(-max(n, -countBits)) }

// Div returns the quotient c/d, rounded down, and the remainder. It holds that c = quotient·d + remainder. If d is 0,
// the quotient is 0 and the remainder is c.
func (c Count) Div(d Count) (quotient, remainder Count) {
	if d.IsZero() {
		return Count{}, c
	}
	if d.hi == 0 && d.mid == 0 {
		quotient, rest := c.divide(d.lo)
		return quotient, CountOf(rest)
	}
	for n := c.BitLen() - d.BitLen(); n >= 0; n-- { // one binary digit of the quotient after the other
		if multiple := d.shl(n); multiple.Cmp(c) <= 0 {
			c = c.Sub(multiple)
			quotient = quotient.Add(Pow2(n))
		}
	}
	return quotient, c
}

// IsZero reports whether c is 0. Package encoding/json calls it for the option omitzero.
func (c Count) IsZero() bool { return c == Count{} }

// String returns c in decimal, in at most 58 digits without separators.
func (c Count) String() string {
	const chunk, digits = 1e19, 19 // the largest power of ten in a uint64
	if c.hi == 0 && c.mid == 0 {
		return strconv.FormatUint(c.lo, 10)
	}
	quotient, rest := c.divide(chunk)
	return fmt.Sprintf("%s%0*d", quotient, digits, rest)
}

// MarshalText returns the text that [Count.String] returns, and a nil error. It makes a Count a string in JSON, so that
// no reader rounds it to a float.
func (c Count) MarshalText() ([]byte, error) {
	if c.hi == 0 && c.mid == 0 {
		return strconv.AppendUint(nil, c.lo, 10), nil
	}
	return []byte(c.String()), nil
}

// UnmarshalText sets c to the number in text: decimal digits without a sign or leading zeros, at most 2^192-1. For any
// other text it returns a [*ParseError] and leaves c unchanged. It must not be called concurrently with other methods
// of the same variable. Cost: O(len(text)).
func (c *Count) UnmarshalText(text []byte) error {
	fault := func(rule, want string) error {
		return &ParseError{Input: string(text), Rule: rule, Want: want}
	}
	if len(text) == 0 {
		return fault("a count has at least one digit", `a decimal number, as in "256"`)
	}
	var sum Count
	for i, digit := range text {
		if digit < '0' || digit > '9' {
			return fault("a count has only the digits 0 to 9", `a decimal number, as in "256"`)
		}
		if i == 1 && text[0] == '0' {
			return fault("a count has no leading zeros", `a decimal number without them, as in "256"`)
		}
		var ok bool
		if sum, ok = sum.appendDigit(digit - '0'); !ok {
			return fault("a count must be less than 2^192", fmt.Sprintf("at most %q", maxCount.String()))
		}
	}
	*c = sum
	return nil
}

// appendDigit returns 10c+digit. The result is false if that is more than the largest Count.
func (c Count) appendDigit(digit byte) (Count, bool) {
	carry := uint64(digit)
	for _, word := range []*uint64{&c.lo, &c.mid, &c.hi} {
		high, low := bits.Mul64(*word, 10)
		sum, overflow := bits.Add64(low, carry, 0)
		*word, carry = sum, high+overflow
	}
	return c, carry == 0
}

// divide returns c/divisor and the remainder. The divisor is not 0.
func (c Count) divide(divisor uint64) (quotient Count, rest uint64) {
	quotient.hi, rest = bits.Div64(0, c.hi, divisor)
	quotient.mid, rest = bits.Div64(rest, c.mid, divisor)
	quotient.lo, rest = bits.Div64(rest, c.lo, divisor)
	return quotient, rest
}

// shl returns c<<n, for 0 ≤ n ≤ 192, without the bits that fall out at the top.
func (c Count) shl(n int) Count {
	for ; n >= 64; n -= 64 {
		c = Count{c.mid, c.lo, 0}
	}
	return Count{c.hi<<n | c.mid>>(64-n), c.mid<<n | c.lo>>(64-n), c.lo << n}
}

// shr returns c>>n, for 0 ≤ n ≤ 192.
func (c Count) shr(n int) Count {
	for ; n >= 64; n -= 64 {
		c = Count{0, c.hi, c.mid}
	}
	return Count{c.hi >> n, c.mid>>n | c.hi<<(64-n), c.lo>>n | c.mid<<(64-n)}
}
