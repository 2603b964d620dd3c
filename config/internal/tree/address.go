package tree

import (
	"errors"
	"net/netip"
	"strings"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// masking takes a CIDR with host bits for the prefix that holds it, as the systems do.
var masking = cidr.Parser{MaskHostBits: true}

// Addr is the value of a single address.
func (v Value) Addr() (netip.Addr, bool) { return parsed(v, cidr.ParseAddr) }

// Prefix is the value of a CIDR without host bits.
func (v Value) Prefix() (netip.Prefix, bool) { return parsed(v, cidr.ParsePrefix) }

// MaskedPrefix is the value of a CIDR, whose host bits are masked.
func (v Value) MaskedPrefix() (netip.Prefix, bool) { return parsed(v, masking.Prefix) }

// HostPrefix is the value of a CIDR with its host bits as they are.
func (v Value) HostPrefix() (netip.Prefix, bool) {
	if _, ok := v.MaskedPrefix(); !ok {
		return netip.Prefix{}, false
	}
	return parsed(v, netip.ParsePrefix)
}

// Range is the value of an address, a CIDR, whose host bits are masked, or two bounds.
func (v Value) Range() (netipx.IPRange, bool) {
	r, ok := parsed(v, masking.Range)
	if ok && strings.Contains(v.node.Text, "-") && strings.Contains(v.node.Text, "/") {
		v.Refuse("is a range with a length", "the range alone")
		return netipx.IPRange{}, false
	}
	return r, ok
}

// SubnetRange is the value of two bounds with the length of their subnet, and the subnet; the zero Prefix if it names
// none.
func (v Value) SubnetRange() (netipx.IPRange, netip.Prefix, bool) {
	var subnet netip.Prefix
	r, ok := parsed(v, func(text string) (netipx.IPRange, error) {
		r, prefix, err := masking.SubnetRange(text)
		subnet = prefix
		return r, err
	})
	return r, subnet, ok
}

// parsed is what parse makes of a text.
func parsed[T any](v Value, parse func(string) (T, error)) (T, bool) {
	var none T
	text, ok := v.Text()
	if !ok {
		return none, false
	}
	got, err := parse(text)
	if err == nil {
		return got, true
	}
	rule, want := err.Error(), ""
	var refused *cidr.ParseError
	if errors.As(err, &refused) {
		rule, want = refused.Rule, refused.Want
	}
	v.refuse("cannot be parsed: "+Clause(rule), Clause(want), err)
	return none, false
}

// CheckFamily reports whether the address, which the value is or holds, is of the family; otherwise it records that it
// is not. Whose is what has that family, such as "the pool".
func (v Value) CheckFamily(addr netip.Addr, family pool.Family, whose string) bool {
	got := pool.FamilyOf(addr)
	if got != family {
		v.Refuse("is "+got.String()+", but "+whose+" is "+family.String(), family.String()+" only")
	}
	return got == family
}

// CheckSpec records what a spec that was read from the value still breaks, and reports whether that is nothing.
func (v Value) CheckSpec(spec pool.Spec) bool {
	err := spec.Validate()
	if err != nil {
		rule := strings.TrimPrefix(err.Error(), pool.ErrInvalid.Error()+": ")
		v.refuse("does not make a pool: "+rule, "", err)
	}
	return err == nil
}
