package pool

import (
	"net/netip"
	"time"
)

// kept is a holding as a pool in memory keeps it, in less room: times are numbers, and what few holdings have is aside.
// It is never changed, but for its place and, once its pool has nothing to do with it any more, its prefix.
type kept struct {
	owner      string
	prefix     [1]netip.Prefix // if it has exactly one
	generation int64
	created    int64 // in microseconds since 1970, as expires is
	expires    int64
	rest       *rest // nil if there is none
	place      int32 // where it stands in the heap of those that expire, from 1
	marks
}

// marks are what a holding is.
type marks struct{ cooling, stray, shared, declined, reserved, kept bool }

// rest is what most holdings do not have. It is never changed.
type rest struct {
	prefixes, beside    []netip.Prefix // prefixes unless there is exactly one
	scope, share, child string
	labels              map[string]string
	name                netip.Prefix
	missing, since      time.Time
	sharers             []string
}

// maxScopes is how many scopes a pool in memory knows, so that what owners of one scope have no more than share it.
const maxScopes = 1 << 10

// restOf returns the rest of what has no more than a scope.
func (m *memory) restOf(scope string) *rest {
	r := m.scopes[scope]
	if r == nil {
		if len(m.scopes) >= maxScopes {
			clear(m.scopes)
		}
		r = &rest{scope: scope}
		m.scopes[scope] = r
	}
	return r
}

// keep returns h as it is kept.
func (m *memory) keep(h *holding) *kept {
	var k *kept
	switch {
	case !h.isPlain():
		k = h.keepAll()
	case h.Scope == "":
		k = new(kept)
	default:
		k = &kept{rest: m.restOf(h.Scope)}
	}
	k.owner, k.generation, k.created, k.expires = h.Owner, h.Generation, h.Created.UnixMicro(), h.Expires.UnixMicro()
	k.marks = marks{h.cooling, h.stray, h.shared, h.Declined, h.Reserved, h.Kept}
	if len(h.Prefixes) == 1 {
		k.prefix[0] = h.Prefixes[0]
	}
	return k
}

// isPlain reports whether what h has is no more than a kept has, but for its scope.
func (h *holding) isPlain() bool {
	return len(h.Prefixes) == 1 && h.Beside == nil && h.Share == "" && h.Child == "" && h.Labels == nil &&
		h.name == netip.Prefix{} && h.missing.IsZero() && h.since.IsZero() && h.sharers == nil
}

// keepAll returns the rest of h, and room for what most holdings have: both are one object.
func (h *holding) keepAll() *kept {
	both := &struct {
		kept kept
		rest rest
	}{rest: rest{
		beside: h.Beside, scope: h.Scope, share: h.Share, child: h.Child, labels: h.Labels, name: h.name,
		missing: h.missing, since: h.since, sharers: h.sharers,
	}}
	if len(h.Prefixes) != 1 {
		both.rest.prefixes = h.Prefixes
	}
	both.kept.rest = &both.rest
	return &both.kept
}

// into makes h, which is zero, what is kept. The two share all slices and maps.
func (k *kept) into(h *holding) {
	h.Owner, h.Generation = k.owner, k.generation
	h.Created, h.Expires = time.UnixMicro(k.created).UTC(), time.UnixMicro(k.expires).UTC()
	h.cooling, h.stray, h.shared = k.cooling, k.stray, k.shared
	h.Declined, h.Reserved, h.Kept = k.declined, k.reserved, k.kept
	if k.prefix[0].IsValid() {
		h.Prefixes = k.prefix[:]
	}
	if r := k.rest; r != nil {
		h.Beside, h.Scope, h.Share, h.Child, h.Labels = r.beside, r.scope, r.share, r.child, r.labels
		h.name, h.missing, h.since, h.sharers = r.name, r.missing, r.since, r.sharers
		if r.prefixes != nil {
			h.Prefixes = r.prefixes
		}
	}
}

// holding returns what is kept. Its only prefix is its own.
func (k *kept) holding() *holding {
	h, room := newHolding(Allocation{})
	k.into(h)
	if len(h.Prefixes) == 1 {
		room[0], h.Prefixes = h.Prefixes[0], room
	}
	return h
}

// shares reports whether its owner holds it by a share key.
func (k *kept) shares() bool { return !k.cooling && !k.shared && k.rest != nil && k.rest.share != "" }

// each calls f with each prefix that it has, on both sides.
func (k *kept) each(f func(netip.Prefix)) {
	if k.prefix[0].IsValid() {
		f(k.prefix[0])
	}
	if k.rest == nil {
		return
	}
	for _, p := range k.rest.prefixes {
		f(p)
	}
	for _, p := range k.rest.beside {
		f(p)
	}
}

// ends reports whether its addresses become free for others by themselves, at the time expires.
func (k *kept) ends() bool { return !k.reserved && k.expires != never }

// never is the zero Time in microseconds since 1970.
var never = time.Time{}.UnixMicro()

// arena has holdings for a lead, after which they are used again.
type arena struct {
	all  []*roomy
	used int
}

// roomy is a holding with room for its prefix if it has one.
type roomy struct {
	holding holding
	room    [1]netip.Prefix
}

// maxArena is how many holdings an arena keeps.
const maxArena = 64

// next returns a zero holding, and room for its prefix if it has one.
func (a *arena) next() (*holding, []netip.Prefix) {
	if a.used == len(a.all) {
		a.all = append(a.all, &roomy{})
	}
	r := a.all[a.used]
	a.used++
	return &r.holding, r.room[:]
}

// reset takes back all that next has returned.
func (a *arena) reset() {
	for _, r := range a.all[:a.used] {
		*r = roomy{}
	}
	if a.used > maxArena {
		clear(a.all[maxArena:])
		a.all = a.all[:maxArena]
	}
	a.used = 0
}
