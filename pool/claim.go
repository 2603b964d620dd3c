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
	// Owner is a name that the caller already has and will have again after a restart: an object's UID, or a
	// container's id and interface. It makes the claim idempotent. It is 1 to [store.MaxNameBytes] bytes of UTF-8
	// without NUL, and does not begin with `share "`: records of what owners share have such names.
	Owner string

	// Policy says how many families the claim is for. With a policy for both, a request that names no family gets a
	// prefix of each, and a family that no request names gets a request with the defaults. Default: [SingleStack],
	// which does neither.
	Policy FamilyPolicy

	// Requests are what the claim asks for. They are granted together or not at all. None means one request with all
	// the defaults. To get one address from each of several sets, make one request for each set. Exact requests are met
	// first, then those within a set or band, and larger prefixes before smaller ones. A prefix chosen for one request
	// is not changed to make room for another. At most [MaxRequests].
	Requests []Request

	// TTL makes the claim a lease: what is granted becomes free again after this time, unless [Pool.Renew] extends it.
	// 0 makes it a permanent allocation, which never ends. It is truncated to the microsecond; at most [MaxTTL].
	//
	// An owner that holds a lease and claims the same again renews it: the lease lasts for at least this time from then
	// on, and never ends earlier than before. If it claims the same without a TTL, the lease becomes a permanent
	// allocation. A permanent allocation stays permanent.
	TTL time.Duration

	// Scope says on whose behalf the claim is made; it may be a namespace, for example. The claim is refused with
	// [ErrScope] if the pool has another scope, or if the owner already holds something that it claimed with another
	// scope.
	Scope string

	// Share is a share key: all owners of one scope that claim with the same key get the same, and hold it together, such
	// as load balancers on different ports of one address. The first is granted what it asks for, as any claim is. The
	// others get that, if it is what they ask for, and else [ErrShared]; a key has one grant at a time, so name a second
	// key for a second address. Who does not name the key is refused with [ErrTaken]. What is shared becomes free, cools
	// down or goes into quarantine when its last owner leaves it, as that owner's; see [Pool.Decline]. The lease, labels
	// and generation are each owner's own, each counts for its quotas, and in [Stats] the addresses count once. An owner
	// that claims again must name the same key. To change it, release and claim in one call of [Pool.All]. Which ports
	// each owner uses is for the callers to agree on. See [Pool.Holders].
	//
	// It is UTF-8 without NUL, and fits into [store.MaxNameBytes] with the scope, both in quotes. At most [MaxSharers]
	// owners have one key. What is shared cannot be reserved or delegated, and is not preferred ([Request.Prefer]). Empty
	// means that the owner holds it alone.
	//
	// Cost: one record more to read, if the handle has not met the key lately, and to write: the list of the owners.
	Share string

	// Fenced asks for an answer that no earlier call can undo. Without it, an owner that already holds what the claim
	// asks for gets its answer after a read. A process that died may have left a release of that owner on its way to
	// the store, and that release may take effect after the answer. With Fenced the answer comes after a commit, which
	// makes everything sent earlier fail. It costs one commit if nothing new is granted, and nothing otherwise; but
	// handles of other processes that wait at that moment may have to commit for themselves once. See "Owners and
	// generations" in the package comment.
	Fenced bool

	// Labels are stored with the allocation, for people, for drawings, and for [Pool.Find]: a pod's name, a node, an
	// order's number. They do not affect what is granted. An owner that claims again keeps its first labels. A name is not
	// empty; names and values are UTF-8 without NUL. At most [MaxLabels], of at most [MaxLabelBytes] bytes in all.
	Labels map[string]string
}

const (
	// MaxRequests is the largest number of requests in a claim.
	MaxRequests = 4096
	// MaxPreferences is the largest number of requests in a claim that set [Request.Prefer].
	MaxPreferences = 16
	// MaxLabels is how many labels a claim may have.
	MaxLabels = 64
	// MaxLabelBytes is the largest size in bytes of all labels of a claim, names and values together.
	MaxLabelBytes = 4096
	// MaxTTL is the longest duration of a lease or a cooldown: 100 years of 365 days.
	MaxTTL = 100 * 365 * 24 * time.Hour
)

// Request is one address or prefix that a claim asks for. The zero Request asks for a prefix of the pool's default
// length, chosen by its strategy. A Request may be copied; the copy shares Within, which must not be changed.
type Request struct {
	// Family is the family of the address. The zero Family means the family of Exact, Within or Prefer if one of them
	// is set, and otherwise what the claim's Policy says.
	Family Family

	// Bits is the prefix length, 1 to 32 for IPv4 and 1 to 128 for IPv6, within the bounds of the pool; see
	// [FamilySpec.MinBits]. 0 means the length of Exact, or else the pool's default. With a policy for both families it
	// applies to both. To ask for different lengths, make a request for each Family.
	Bits int

	// Within is a set of addresses of one family. The answer lies in this set and in the pool. nil means no
	// restriction. All the sets of a claim together have at most [MaxRanges] ranges; a set that several requests share
	// counts once.
	//
	// Cost: O(ranges) for a set that the handle has not seen lately; it remembers a few, by pointer. Reuse one IPSet
	// rather than making an equal one: then a claim costs only O(log ranges) more. A claim with many requests for one
	// set costs O(requests + ranges).
	Within *netipx.IPSet

	// Exact is the requested prefix, without host bits; see [ExactAddr] for one address. It must lie in Within, if that
	// is set. The zero Prefix means any prefix. Every other invalid Prefix is refused.
	Exact netip.Prefix

	// Prefer is an address that the answer contains if possible, as a DHCP client may ask for one (RFC 2132, section
	// 9.1). Otherwise the request gets any prefix. It is possible if the prefix of the requested length around the
	// address is free, or was another owner's lease, cooldown or quarantine that has ended, and if the request could get
	// that prefix without preferring it: the prefix lies in Within, and in no exclusive band. If the other requests of
	// the claim cannot be met as well, all preferences of the claim are ignored. They are also ignored if the owner
	// already holds something, or gets back what it held last. A request must not have both Prefer and Exact. At most
	// [MaxPreferences] in a claim. The zero Addr means no preference.
	//
	// Cost: nothing if the prefix is free. Otherwise, in a pool that has leases, one look-up by address as in
	// [Pool.Get], and a list of what is in quarantine, if anything is.
	Prefer netip.Addr

	// Band names a band of the pool, which is tried first; see [Spec.Bands]. If Within is set, it means the part of the
	// band that lies in that set. Empty means that bands are tried last. Band is ignored if Exact is set, or if the
	// owner already holds something.
	Band string

	wrong  string      // what was wrong with the argument of ExactAddr
	within *space.Part // Within, in a claim that was prepared
}

// ExactAddr returns a request for one address. If addr is the zero Addr, has a zone or is IPv4-mapped, the request is
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

func validateOwner(owner string) error {
	if isShareName(owner) {
		return invalid("the owner %.40q begins as the records of shares do, with %q", owner, shareMark)
	}
	return validateName("owner", owner)
}

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

// Validate returns an error that wraps [ErrInvalid] if the claim breaks a rule that holds for every pool, and nil
// otherwise. [Pool.Allocate] makes the same checks before it reads anything. Cost: O(requests + ranges of their sets).
func (c Claim) Validate() error { return c.prepare(&setCache{}) }

// prepare checks the claim, which must be a copy of the caller's, and makes the sets in it ready to be searched.
func (c *Claim) prepare(sets *setCache) error {
	if err := c.checkOwnerAndRest(); err != nil {
		return err
	}
	switch c.Policy {
	case "":
		c.Policy = SingleStack
	case SingleStack, PreferDualStack, RequireDualStack:
	default:
		return invalid("%q is not a family policy, want %q", string(c.Policy),
			[]FamilyPolicy{SingleStack, PreferDualStack, RequireDualStack})
	}
	if err := c.prepareSets(sets); err != nil {
		return err
	}
	return c.checkRequests()
}

// prepareFor is prepare for a step.
func (c *Claim) prepareFor(op string, sets *setCache) error {
	if op == opReserve && c.TTL != 0 {
		return invalid("a reservation does not end by itself, and has no time to live; the claim has %v", c.TTL)
	}
	if op == opReserve {
		if err := c.notShared("a reservation"); err != nil {
			return err
		}
	}
	return c.prepare(sets)
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
	return cmp.Or(c.validateShare(), validateLabels(c.Labels))
}

// validateLabels checks the labels of a claim or of a pool. A store takes more of them: the history has its own beside
// those of the claim.
func validateLabels(labels map[string]string) error {
	size := 0
	for name, value := range labels {
		size += len(name) + len(value)
	}
	switch {
	case len(labels) > MaxLabels:
		return invalid("there are %d labels, the most is %d", len(labels), MaxLabels)
	case size > MaxLabelBytes:
		return invalid("the labels have %d bytes, the most is %d", size, MaxLabelBytes)
	}
	return store.ValidateLabels(labels)
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
	for i := range requests {
		to = requests[i].forEach(families, to)
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
func (r *Request) forEach(families []Family, to []Request) []Request {
	if own := r.ownFamily(); own != 0 {
		families = []Family{own}
	}
	for _, family := range families {
		to = append(to, *r)
		to[len(to)-1].Family = family
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
		return invalid("the set that a request must be within is empty")
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
		return invalid("the exact prefix %v is not in the set that it must be within, which starts at %v",
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
		r.Bits = spec.bits[r.Family.index()]
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
