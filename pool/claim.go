package pool

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/pool/internal/space"
	"github.com/ipalloc/ipalloc/store"
)

// Claim is what an owner asks of a pool.
//
// The zero Claim is not valid: it has no owner. A Claim may be copied; the copy shares Requests and Labels.
type Claim struct {
	// Owner names the claimant, in terms that the caller already has and will have again after a restart: an object's
	// UID, or a container's id and its interface. It makes the claim idempotent. Any UTF-8 without NUL, 1 to
	// [store.MaxNameBytes] bytes.
	Owner string

	// Policy says how many families the claim is for. With a policy for both, a request that names no family gets a
	// prefix of each, and a family that no request names gets a request of its own, with the defaults. Default:
	// [SingleStack], which does neither.
	Policy FamilyPolicy

	// Requests are what is asked for, all of it or nothing. None means one request with all the defaults. To ask for one
	// address from each of several sets, make one request for each. Exact requests are met first, then those within a
	// set or band, and larger prefixes before smaller ones; a prefix that one request has got is not changed to make
	// room for another. At most [MaxRequests].
	Requests []Request

	// TTL makes the claim a lease: what is granted is free again after this time, unless [Pool.Renew] extends it. 0
	// makes it a permanent allocation, which never ends. Cut to the microsecond; at most [MaxTTL].
	//
	// An owner that holds a lease and claims the same again has it for at least this time from then on, as if it had
	// renewed it: that never makes a lease end earlier. If it claims the same without a TTL, it has a permanent
	// allocation from then on. An owner that holds a permanent allocation keeps it.
	TTL time.Duration

	// Scope is on whose behalf the claim is made, such as a namespace. The claim is refused with [ErrScope] by a pool of
	// another scope, and if the same owner holds something by a claim of another scope.
	Scope string

	// Fenced asks for an answer that no earlier call can undo. Without it, an owner that holds what the claim asks for
	// is told so after a read. A release of that owner which another process sent before it died may still be on its way
	// to the store, and take effect after the answer. With Fenced the answer comes after a commit, which makes all that
	// was sent before fail. It costs one commit where there would be none, and nothing where something is granted. See
	// "Owners and generations" in the package comment.
	Fenced bool

	// Labels are kept with what is granted, for people and for pictures: a pod's name, a node. They play no part in what
	// is granted. An owner that asks again keeps the first ones. At most [MaxLabelBytes] bytes in all.
	Labels map[string]string
}

const (
	// MaxRequests is the largest number of requests in a claim.
	MaxRequests = 4096
	// MaxPreferences is the largest number of requests in a claim that prefer an address.
	MaxPreferences = 16
	// MaxLabelBytes is the largest size in bytes of all labels of a claim, names and values together.
	MaxLabelBytes = 4096
	// MaxTTL is the longest that a lease or a cooldown may last: 100 years of 365 days.
	MaxTTL = 100 * 365 * 24 * time.Hour
)

// Request is one address or prefix that a claim asks for. The zero Request asks for a prefix of the pool's default
// length, chosen by its strategy. A Request may be copied; the copy shares Within, which must not be changed.
type Request struct {
	// Family is that of the address. The zero Family means that of Exact, Within or Prefer if there is one, and otherwise
	// what the claim's Policy says.
	Family Family

	// Bits is the prefix length, 1 to 32 or to 128, within the bounds of the pool; see [FamilySpec.MinBits]. 0 means the
	// length of Exact, or the pool's default. With a policy for both families it is for both; to ask for different
	// lengths, make a request for each Family.
	Bits int

	// Within are addresses in which the answer must lie, in addition to lying in the pool. They must be of one family.
	// nil means no bound. All the sets of a claim have at most [MaxRanges] ranges together; one that several requests
	// share counts once.
	//
	// Cost: O(ranges) for a set that the handle has not seen lately; it remembers a few, by their pointers. So use one
	// IPSet again, rather than an equal one: then the claim costs O(log ranges) more, and a claim of many requests with
	// one set O(requests + ranges).
	Within *netipx.IPSet

	// Exact is the exact prefix that is asked for, without host bits; see [ExactAddr] for one address. It must lie in
	// Within, if there is one. The zero Prefix means any; another one that is not valid is refused.
	Exact netip.Prefix

	// Prefer is an address that the answer is to contain if that can be had, as DHCP clients ask for one (RFC 2132,
	// section 9.1); otherwise the request gets any. It can be had if the prefix of the requested length around it is
	// free, or was the lease of another owner that has ended, and if the request might get it without preferring it: it
	// lies in Within, and in no band that is exclusive. If the other requests of the claim cannot be met beside what is
	// preferred, nothing is. Preferences play no part if the owner holds something already, or gets back what it held
	// last. It goes with no Exact prefix; at most [MaxPreferences] in a claim. The zero Addr prefers none.
	//
	// Cost: nothing if the prefix is free; else one look-up as by [Pool.Get] of an address, in a pool that has leases.
	Prefer netip.Addr

	// Band names a band of the pool, whose addresses are tried first; see [Spec.Bands]. Together with Within, it is the
	// part of the band that lies there. Empty means that bands are tried last. It plays no part if there is an Exact
	// prefix, or if the owner holds something already.
	Band string

	wrong  string      // what was wrong with the argument of ExactAddr
	within *space.Part // Within, in a claim that was prepared
}

// ExactAddr asks for one address. A request for the zero Addr, for one with a zone or for an IPv4-mapped one is
// refused with [ErrInvalid] when it is used.
func ExactAddr(addr netip.Addr) Request {
	switch {
	case !addr.IsValid():
		return Request{wrong: "the exact address is the zero Addr, want one that is valid"}
	case addr.Zone() != "":
		return Request{wrong: fmt.Sprintf("the exact address %v has a zone, want %v", addr, addr.WithZone(""))}
	}
	return Request{Exact: netip.PrefixFrom(addr, addr.BitLen())}
}

func validateOwner(owner string) error { return validateName("owner", owner) }

// validateName checks what becomes part of a record's key.
func validateName(what, name string) error {
	switch {
	case name == "":
		return invalid("the %s is empty", what)
	case len(name) > store.MaxNameBytes:
		return invalid("the %s %.20q… is %d bytes long, the most is %d", what, name, len(name), store.MaxNameBytes)
	case !utf8.ValidString(name) || strings.IndexByte(name, 0) >= 0:
		return invalid("the %s %q is not UTF-8 without NUL", what, name)
	}
	return nil
}

// Validate returns an error that wraps [ErrInvalid] if the claim breaks a rule that holds for every pool, else nil.
// [Pool.Allocate] checks the same, before it reads anything. Cost: O(requests + ranges of their sets).
func (c Claim) Validate() error { return c.prepare(&setCache{}) }

// prepare checks the claim, which must be a copy of the caller's, and makes the sets in it ready to be searched.
func (c *Claim) prepare(sets *setCache) error {
	if err := c.checkOwnerAndRest(); err != nil {
		return err
	}
	if c.Policy > RequireDualStack {
		return invalid("%v is not a family policy", c.Policy)
	}
	if err := c.prepareSets(sets); err != nil {
		return err
	}
	return c.checkRequests()
}

// prepareSets fills in the parts that the requests are to be within, in requests of its own.
func (c *Claim) prepareSets(sets *setCache) error {
	if !slices.ContainsFunc(c.Requests, func(r Request) bool { return r.Within != nil }) || len(c.Requests) > MaxRequests {
		return nil
	}
	c.Requests = slices.Clone(c.Requests)
	counted, size := map[*netipx.IPSet]bool{}, 0
	for i := range c.Requests {
		r := &c.Requests[i]
		if r.Within == nil {
			continue
		}
		if r.within = sets.partOf(r.Within); !counted[r.Within] {
			counted[r.Within] = true
			size += len(r.within.Ranges())
		}
		if size > MaxRanges {
			return invalid("the sets of the claim have more than %d ranges, the most is that", MaxRanges)
		}
	}
	return nil
}

// checkOwnerAndRest checks all but the policy and the requests.
func (c *Claim) checkOwnerAndRest() error {
	if err := validateOwner(c.Owner); err != nil {
		return err
	}
	return c.checkRest()
}

// checkRest checks all but the owner, the policy and the requests.
func (c *Claim) checkRest() error {
	if c.TTL != 0 {
		if err := checkTime("time to live", c.TTL); err != nil {
			return err
		}
	}
	if c.Scope != "" {
		if err := validateName("scope", c.Scope); err != nil {
			return err
		}
	}
	size := 0
	for name, value := range c.Labels {
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return invalid("the label %q with the value %q is not UTF-8", name, value)
		}
		size += len(name) + len(value)
	}
	if size > MaxLabelBytes {
		return invalid("the labels have %d bytes, the most is %d", size, MaxLabelBytes)
	}
	return nil
}

// checkRequests checks each request, and that none asks for what another one does.
func (c *Claim) checkRequests() error {
	if len(c.Requests) > MaxRequests {
		return invalid("the claim has %d requests, the most is %d", len(c.Requests), MaxRequests)
	}
	preferences := 0
	for i := range c.Requests {
		if err := c.Requests[i].check(); err != nil {
			return err
		}
		if c.Requests[i].Prefer.IsValid() {
			preferences++
		}
	}
	if preferences > MaxPreferences {
		return invalid("%d requests of the claim prefer an address, the most is %d", preferences, MaxPreferences)
	}
	if len(c.Requests) < 2 {
		return nil
	}
	asked := make(map[netip.Prefix]bool, len(c.Requests))
	for _, r := range c.Requests {
		if r.Exact.IsValid() && asked[r.Exact] {
			return invalid("%v is asked for twice in one claim", r.Exact)
		}
		asked[r.Exact] = true
	}
	return nil
}

var defaultRequests = []Request{{}}

// resolve appends the requests of a claim that was prepared to to, each with its family and length, as spec and policy
// have them.
func (c *Claim) resolve(spec *rules, policy FamilyPolicy, to []Request) ([]Request, error) {
	if policy == RequireDualStack && len(spec.families) < 2 {
		return nil, fmt.Errorf("%w: %v asks for two families, the pool has %v only", ErrFamily, policy, spec.families[0])
	}
	families := spec.families
	if policy == SingleStack {
		families = families[:1]
	}
	requests := c.Requests
	if len(requests) == 0 {
		requests = defaultRequests
	}
	for _, r := range requests {
		to = r.forEach(families, to)
	}
	for _, family := range families {
		if policy != SingleStack && !slices.ContainsFunc(to, func(r Request) bool { return r.Family == family }) {
			to = append(to, Request{Family: family})
		}
	}
	for i := range to {
		if err := to[i].complete(spec); err != nil {
			return nil, err
		}
	}
	return to, nil
}

// forEach appends the request for each of the families, or for its own if it has one.
func (r Request) forEach(families []Family, to []Request) []Request {
	if r.Family = r.ownFamily(); r.Family != 0 {
		return append(to, r)
	}
	for _, r.Family = range families {
		to = append(to, r)
	}
	return to
}

// check finds contradictions, and what could be taken for something else.
func (r *Request) check() error {
	if r.wrong != "" {
		return invalid("%s", r.wrong)
	}
	switch exact := r.Exact; {
	case r.Family != 0 && r.Family != IPv4 && r.Family != IPv6:
		return invalid("%v is not a family, want IPv4 or IPv6", r.Family)
	case r.Bits < 0 || r.Bits > IPv6.Width():
		return invalid("the prefix length %d is out of range, want 1 to 32 or to 128", r.Bits)
	case exact == netip.Prefix{}:
	case !exact.IsValid():
		return invalid("the exact prefix with the address %v and the length %d is not valid, want one of length 1 to %d",
			exact.Addr(), exact.Bits(), max(exact.Addr().BitLen(), IPv4.Width()))
	case exact.Addr().Is4In6():
		return invalid("the exact prefix %v is of IPv4-mapped IPv6 addresses, want an IPv4 one", exact)
	case exact != exact.Masked():
		return invalid("the exact prefix %v has host bits set, want %v", exact, exact.Masked())
	case exact.Bits() == 0:
		return invalid("the exact prefix %v is a whole family, want a length of 1 or more", exact)
	case r.Bits != 0 && r.Bits != exact.Bits():
		return invalid("a request for %v has another length, %d", exact, r.Bits)
	}
	if err := cmp.Or(r.checkPrefer(), r.checkWithin()); err != nil {
		return err
	}
	return r.checkFamily()
}

// checkPrefer checks the address that the request prefers.
func (r *Request) checkPrefer() error {
	switch prefer := r.Prefer; {
	case prefer == netip.Addr{}:
	case prefer.Zone() != "":
		return invalid("the preferred address %v has a zone, want %v", prefer, prefer.WithZone(""))
	case prefer.Is4In6():
		return invalid("the preferred address %v is an IPv4-mapped IPv6 address, want %v", prefer, prefer.Unmap())
	case r.Exact.IsValid():
		return invalid("a request for exactly %v prefers %v, want one of the two", r.Exact, prefer)
	}
	return nil
}

// checkWithin checks the set that a prepared request is to be within.
func (r *Request) checkWithin() error {
	if r.Within == nil {
		return nil
	}
	ranges := r.within.Ranges()
	if len(ranges) == 0 {
		return invalid("a request is to be within a set that is empty")
	}
	if first, last := ranges[0].From(), ranges[len(ranges)-1].To(); FamilyOf(first) != FamilyOf(last) {
		return invalid("a request is to be within a set of both families, from %v to %v; want one family", first, last)
	}
	return nil
}

// checkFamily checks that all of a request is of one family, and the exact prefix in the set.
func (r *Request) checkFamily() error {
	for _, family := range []Family{r.familyExact(), r.familyWithin(), r.familyPrefer()} {
		if own := r.ownFamily(); family != 0 && family != own {
			return invalid("a request for %v has an address or set of %v", own, family)
		}
	}
	if r.Exact.IsValid() && r.Within != nil && !r.within.Contains(r.Exact) {
		return invalid("the exact prefix %v is not in the set that it is to be within, which starts at %v",
			r.Exact, r.within.Ranges()[0].From())
	}
	return nil
}

// ownFamily is the family that the request names, or that of its addresses; 0 if it says none.
func (r *Request) ownFamily() Family {
	return cmp.Or(r.Family, r.familyExact(), r.familyWithin(), r.familyPrefer())
}

func (r *Request) familyPrefer() Family {
	if !r.Prefer.IsValid() {
		return 0
	}
	return FamilyOf(r.Prefer)
}

func (r *Request) familyWithin() Family {
	if ranges := r.within.Ranges(); len(ranges) > 0 {
		return FamilyOf(ranges[0].From())
	}
	return 0
}

func (r *Request) familyExact() Family {
	if !r.Exact.IsValid() {
		return 0
	}
	return FamilyOf(r.Exact.Addr())
}

// complete fills in the length, once the family is known.
func (r *Request) complete(spec *rules) error {
	if !spec.has(r.Family) {
		return fmt.Errorf("%w: %v", ErrFamily, r.Family)
	}
	if r.Exact.IsValid() {
		r.Bits = r.Exact.Bits()
	}
	if r.Bits == 0 {
		r.Bits = spec.bits(r.Family)
	}
	if r.Band != "" && spec.bands[r.Band] == nil {
		return invalid("the pool has no band %q", r.Band)
	}
	if r.Bits > r.Family.Width() {
		return invalid("the prefix length %d is out of range for %v, want 1 to %d", r.Bits, r.Family, r.Family.Width())
	}
	return nil
}

// checkLengths returns an error if the claim asks for a length that the pool does not grant.
func (v *view) checkLengths(c *Claim) error {
	if !v.rules.bounded {
		return nil
	}
	requests, err := c.resolve(v.rules, c.Policy, v.scratch.requests[:0])
	if err != nil {
		return err
	}
	v.scratch.requests = requests
	for i := range requests {
		family, bits := requests[i].Family, requests[i].Bits
		if bounds := v.rules.of(family).withDefaults(family); bits < bounds.MinBits || bits > bounds.MaxBits {
			return invalid("the %v prefix length %d is out of the pool's bounds, want %d to %d",
				family, bits, bounds.MinBits, bounds.MaxBits)
		}
	}
	return nil
}

// choice orders requests by how much choice they leave: none, some, all.
func (r *Request) choice() int {
	switch {
	case r.Exact.IsValid():
		return 0
	case r.Within != nil || r.Band != "":
		return 1
	default:
		return 2
	}
}

// isMetBy tells whether p is what the request, which is complete, asks for.
func (r *Request) isMetBy(p netip.Prefix) bool {
	return FamilyOf(p.Addr()) == r.Family && p.Bits() == r.Bits &&
		(!r.Exact.IsValid() || r.Exact == p) &&
		(r.within == nil || r.within.Contains(p))
}

// isMet reports whether prefixes are an answer to the claim. A claim that prefers both families is also met by one
// family, if the pool had no other when it was granted. If the pool has given up a family since, the prefixes are
// judged as if it still had the families that they are of.
func (v *view) isMet(c *Claim, prefixes []netip.Prefix) bool {
	if v.isMetIn(v.rules, c, prefixes) {
		return true
	}
	given := func(p netip.Prefix) bool { return !v.rules.has(FamilyOf(p.Addr())) }
	if !slices.ContainsFunc(prefixes, given) {
		return false
	}
	earlier := *v.rules
	earlier.families = nil
	for _, p := range prefixes {
		if family := FamilyOf(p.Addr()); !earlier.has(family) {
			earlier.families = append(earlier.families, family)
		}
	}
	return v.isMetIn(&earlier, c, prefixes)
}

func (v *view) isMetIn(r *rules, c *Claim, prefixes []netip.Prefix) bool {
	return v.isMetUnder(c.Policy, r, c, prefixes) ||
		c.Policy == PreferDualStack && v.isMetUnder(SingleStack, r, c, prefixes)
}

func (v *view) isMetUnder(policy FamilyPolicy, r *rules, c *Claim, prefixes []netip.Prefix) bool {
	requests, err := c.resolve(r, policy, v.scratch.met[:0])
	if err != nil || len(requests) != len(prefixes) {
		return false
	}
	v.scratch.met = requests
	for i := range requests {
		if !requests[i].isMetBy(prefixes[i]) {
			return false
		}
	}
	return true
}
