package cidr

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"strconv"
)

// Count is a number of addresses or of prefixes, exact from 0 to 2^192-1. That is far past 2^128+2^32, the
// number of all IPv6 and IPv4 addresses, so sums of many sizes stay exact too. Arithmetic never wraps: it
// stops at 0 and at 2^192-1.
//
// The zero value is 0. A Count is a value: copy it freely, compare it with == and use it as a map key. Its
// methods, but for UnmarshalText, may be called concurrently. All take constant time.
type Count struct {
	hi, mid, lo uint64
}

// countBits is the number of bits in a Count.
const countBits = 192

// maxCount is where a Count saturates.
var maxCount = Count{math.MaxUint64, math.MaxUint64, math.MaxUint64}

// CountOf returns n as a Count.
func CountOf(n uint64) Count { return Count{lo: n} }

// Count128 returns hi·2^64 + lo.
func Count128(hi, lo uint64) Count { return Count{mid: hi, lo: lo} }

// Pow2 returns 2^bits, the number of addresses in a prefix with that many host bits. The callers' range is
// 0 to 128; it is exact up to 191, is the largest Count from 192 on, and 0 for negative bits.
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

// BitLen returns how many bits it takes to write c: 0 for 0, at most 192.
func (c Count) BitLen() int {
	switch {
	case c.hi != 0:
		return 128 + bits.Len64(c.hi)
	case c.mid != 0:
		return 64 + bits.Len64(c.mid)
	}
	return bits.Len64(c.lo)
}

// Low returns the lowest n bits of c, which is c modulo 2^n; all of it from 192 on, and 0 for a negative n.
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

// Lsh returns c·2^n, or 2^192-1 if that is larger. A negative n shifts right: Lsh(-n) is Rsh(n).
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

// Rsh returns c/2^n, rounded down. A negative n shifts left: Rsh(-n) is Lsh(n).
func (c Count) Rsh(n int) Count { return c.Lsh(-max(n, -countBits)) }

// Div returns the quotient c/d, rounded down, and the remainder, so that c is quotient·d + remainder. Division by 0
// returns 0 and c.
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

// IsZero reports whether c is 0. It also makes the omitzero option of encoding/json work.
func (c Count) IsZero() bool { return c == Count{} }

// String returns c in decimal, without separators: at most 58 digits.
func (c Count) String() string {
	const chunk, digits = 1e19, 19 // the largest power of ten in a uint64
	if c.hi == 0 && c.mid == 0 {
		return strconv.FormatUint(c.lo, 10)
	}
	quotient, rest := c.divide(chunk)
	return fmt.Sprintf("%s%0*d", quotient, digits, rest)
}

// MarshalText returns c as String does; the error is always nil. In JSON a Count is therefore a string,
// and no reader rounds it to a float.
func (c Count) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText sets c to the number that text says in decimal, as MarshalText wrote it: digits only, no
// sign, no leading zero, at most 2^192-1. For any other text it returns a [*ParseError] and leaves c as it
// was. Not for concurrent use with other methods of the same variable. Cost: O(len(text)), and at most 59
// digits are looked at.
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

// appendDigit returns 10c+digit, or false if that is no Count.
func (c Count) appendDigit(digit byte) (Count, bool) {
	carry := uint64(digit)
	for _, word := range []*uint64{&c.lo, &c.mid, &c.hi} {
		high, low := bits.Mul64(*word, 10)
		sum, overflow := bits.Add64(low, carry, 0)
		*word, carry = sum, high+overflow
	}
	return c, carry == 0
}

// divide returns c/divisor and the remainder, for a divisor that is not 0.
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
