package dhcp6

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/insomniacslk/dhcp/rfc1035label"

	"github.com/ipalloc/ipalloc/examples/dhcp/internal/leases"
)

// association is an identity association of a message: RFC 8415, section 12.
type association struct {
	kind leases.Kind
	iaid [4]byte
	// has are the addresses, as prefixes of 128 bits, or the prefixes that the client names, and valid is how long it
	// would like to have the first one.
	has   []netip.Prefix
	valid time.Duration
	want  leases.Want
}

// associations reads those of the message.
func (r *request) associations() ([]association, error) {
	var ias []association
	for _, ia := range r.in.Options.IANA() {
		a := association{kind: leases.NA, iaid: ia.IaId}
		for _, has := range ia.Options.Addresses() {
			if addr := addrOf(has.IPv6Addr); addr.IsValid() {
				a.has = append(a.has, netip.PrefixFrom(addr, 128))
				a.valid = max(a.valid, has.ValidLifetime)
			}
		}
		ias = append(ias, a)
	}
	for _, ia := range r.in.Options.IAPD() {
		a := association{kind: leases.PD, iaid: ia.IaId}
		for _, has := range ia.Options.Prefixes() {
			if prefix := prefixOf(has.Prefix); prefix.IsValid() {
				a.has = append(a.has, prefix)
				a.valid = max(a.valid, has.ValidLifetime)
			}
		}
		ias = append(ias, a)
	}
	if len(ias) > maxIAs {
		return nil, fmt.Errorf("%w: %d identity associations, more than %d", ErrMalformed, len(ias), maxIAs)
	}
	return ias, r.wants(ias)
}

// wants says what each association asks for. Its identity is the DUID and the IAID. A client's reservation is for the
// association with the lowest IAID of its kind, so that it does not depend on their order.
func (r *request) wants(ias []association) error {
	first := map[leases.Kind]string{}
	seen := map[string]bool{}
	for i := range ias {
		ia := &ias[i]
		ia.want = leases.Want{Kind: ia.kind, Owner: fmt.Sprintf("%s/%s/%x", r.duid, ia.kind, ia.iaid), Near: r.near}
		if len(ia.has) > 0 {
			ia.want.Prefer = ia.has[0].Addr()
		}
		if seen[ia.want.Owner] {
			return fmt.Errorf("%w: an IAID twice", ErrMalformed)
		}
		seen[ia.want.Owner] = true
		if first[ia.kind] == "" || ia.want.Owner < first[ia.kind] {
			first[ia.kind] = ia.want.Owner
		}
	}
	for i := range ias {
		ias[i].want.First = ias[i].want.Owner == first[ias[i].kind]
	}
	return nil
}

func prefixOf(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	bits, size := n.Mask.Size()
	if size != 128 || !addrOf(n.IP).IsValid() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(addrOf(n.IP), bits).Masked()
}

// assign answers Solicit, Request, Renew and Rebind: RFC 8415, sections 18.3.1, 18.3.2, 18.3.4 and 18.3.5. All
// associations that can be met are met in one commit.
func (r *request) assign(ctx context.Context, ias []association) (*dhcpv6.Message, error) {
	if r.in.MessageType == dhcpv6.MessageTypeRebind && !r.Authoritative {
		if err := r.known(ctx, ias); err != nil {
			return nil, err
		}
	}
	out, ttl, kept := r.answer(), r.ttl(ias), time.Duration(0)
	if kept = ttl; r.in.MessageType == dhcpv6.MessageTypeSolicit {
		if r.RapidCommit && r.in.GetOneOption(dhcpv6.OptionRapidCommit) != nil {
			dhcpv6.WithRapidCommit(out)
		} else {
			out.MessageType, kept = dhcpv6.MessageTypeAdvertise, r.Offer
		}
	}
	var wants []leases.Want
	for _, ia := range ias {
		if !r.offLink(ia) {
			wants = append(wants, ia.want)
		}
	}
	grants, err := r.Leases.Grant(ctx, r.network, r.client, kept, wants...)
	if err != nil {
		return nil, err
	}
	for _, ia := range ias {
		i := slices.IndexFunc(grants, func(g leases.Grant) bool { return g.Want == ia.want })
		switch {
		case i < 0:
			out.AddOption(ia.refuse(iana.StatusNotOnLink, "an address is not on the link"))
		case grants[i].Err == nil:
			out.AddOption(ia.grant(grants[i].Prefix, ttl))
		default:
			out.AddOption(ia.refuse(r.none(ia)))
		}
	}
	r.options(out)
	return out, nil
}

// offLink reports whether the client requests addresses that its link does not have.
func (r *request) offLink(ia association) bool {
	return r.in.MessageType == dhcpv6.MessageTypeRequest && ia.kind == leases.NA &&
		slices.ContainsFunc(ia.has, func(p netip.Prefix) bool { return !r.network.Contains(p.Addr()) })
}

// none is the status of an association that gets nothing.
func (r *request) none(ia association) (iana.StatusCode, string) {
	switch {
	case r.in.MessageType == dhcpv6.MessageTypeRenew || r.in.MessageType == dhcpv6.MessageTypeRebind:
		return iana.StatusNoBinding, "no lease, and none to give"
	case ia.kind == leases.PD:
		return iana.StatusNoPrefixAvail, "no prefix is available"
	}
	return iana.StatusNoAddrsAvail, "no address is available"
}

// known returns an error unless the client holds one of the addresses that it names. A server that is not the only one
// leaves the others to answer.
func (r *request) known(ctx context.Context, ias []association) error {
	for _, ia := range ias {
		for _, has := range ia.has {
			want := ia.want
			want.Prefer = has.Addr()
			if held, err := r.Leases.Holds(ctx, r.network, r.client, want); err != nil || held {
				return err
			}
		}
	}
	return fmt.Errorf("%w: no record of it", ErrNotOurs)
}

// ttl is how long the leases last. All of a message last equally long, so that they are renewed together.
func (r *request) ttl(ias []association) time.Duration {
	var asked time.Duration
	for _, ia := range ias {
		asked = max(asked, ia.valid)
	}
	return r.network.TTL(asked)
}

// grant is the association with what it got. What the client had beside it ends at once.
func (a association) grant(got netip.Prefix, ttl time.Duration) dhcpv6.Option {
	var options dhcpv6.Options
	options.Add(a.prefix(got, ttl))
	for _, has := range a.has {
		if has != got {
			options.Add(a.prefix(has, 0))
		}
	}
	// The times of RFC 8415, section 21.4.
	return a.option(ttl/2, ttl*4/5, options)
}

func (a association) refuse(code iana.StatusCode, message string) dhcpv6.Option {
	var options dhcpv6.Options
	if code == iana.StatusNoBinding {
		for _, has := range a.has {
			options.Add(a.prefix(has, 0))
		}
	}
	options.Add(statusOf(code, message))
	return a.option(0, 0, options)
}

func (a association) prefix(p netip.Prefix, ttl time.Duration) dhcpv6.Option {
	ip := net.IP(p.Addr().AsSlice())
	if a.kind == leases.NA {
		return &dhcpv6.OptIAAddress{IPv6Addr: ip, PreferredLifetime: ttl, ValidLifetime: ttl}
	}
	of := &net.IPNet{IP: ip, Mask: net.CIDRMask(p.Bits(), 128)}
	return &dhcpv6.OptIAPrefix{Prefix: of, PreferredLifetime: ttl, ValidLifetime: ttl}
}

func (a association) option(t1, t2 time.Duration, options dhcpv6.Options) dhcpv6.Option {
	if a.kind == leases.NA {
		return &dhcpv6.OptIANA{IaId: a.iaid, T1: t1, T2: t2, Options: dhcpv6.IdentityOptions{Options: options}}
	}
	return &dhcpv6.OptIAPD{IaId: a.iaid, T1: t1, T2: t2, Options: dhcpv6.PDOptions{Options: options}}
}

// end answers Release and Decline: RFC 8415, sections 18.3.7 and 18.3.8.
func (r *request) end(
	ctx context.Context, ias []association,
	end func(context.Context, *leases.Network, leases.Client, ...leases.Want) ([]bool, error),
) (*dhcpv6.Message, error) {
	var wants []leases.Want
	var of []int
	for i, ia := range ias {
		for _, has := range ia.has {
			want := ia.want
			want.Prefer = has.Addr()
			wants, of = append(wants, want), append(of, i)
		}
	}
	if len(wants) > maxIAs {
		return nil, fmt.Errorf("%w: %d addresses, more than %d", ErrMalformed, len(wants), maxIAs)
	}
	held, err := end(ctx, r.network, r.client, wants...)
	if err != nil {
		return nil, err
	}
	out := r.answer()
	out.AddOption(statusOf(iana.StatusSuccess, "done"))
	for i, ia := range ias {
		some := false
		for j, was := range held {
			some = some || was && of[j] == i
		}
		if !some {
			ia.has = nil
			out.AddOption(ia.refuse(iana.StatusNoBinding, "no lease"))
		}
	}
	return out, nil
}

// options adds what the subnets of the link say, if the client asks for it: RFC 3646 and RFC 5908.
func (r *request) options(out *dhcpv6.Message) {
	asked := r.in.Options.RequestedOptions()
	for _, s := range r.network.SubnetsOf(false) {
		if len(s.DNS) > 0 && slices.Contains(asked, dhcpv6.OptionDNSRecursiveNameServer) {
			out.UpdateOption(dhcpv6.OptDNS(ips(s.DNS)...))
		}
		if len(s.Search) > 0 && slices.Contains(asked, dhcpv6.OptionDomainSearchList) {
			out.UpdateOption(dhcpv6.OptDomainSearchList(&rfc1035label.Labels{Labels: s.Search}))
		}
		if len(s.NTP) > 0 && slices.Contains(asked, dhcpv6.OptionNTPServer) {
			servers := &dhcpv6.OptNTPServer{}
			for _, ip := range ips(s.NTP) {
				address := dhcpv6.NTPSuboptionSrvAddr(ip)
				servers.Suboptions.Add(&address)
			}
			out.UpdateOption(servers)
		}
	}
}

func ips(addrs []netip.Addr) []net.IP {
	out := make([]net.IP, len(addrs))
	for i, a := range addrs {
		out[i] = a.AsSlice()
	}
	return out
}
