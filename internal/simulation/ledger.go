package simulation

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// ledger is what a world of pools is at one moment: who holds what in which pool, and which pool may hand out what. It
// is made of the records of a backend, as they are written, or of what the library says. Its rules are those of
// [ledger.check].
type ledger struct {
	pages    []*page              // sorted by name
	external map[string]addresses // by network
	// What the commit under way has granted.
	fresh   []grant
	written bool // something has been written since the last check
	// Whose tenures the commit under way has ended, and of whom it has recorded that.
	ended, recorded []tenure
}

// page is one pool.
type page struct {
	name      string
	facts     string // the part of the head that says the following
	network   string
	ranges    addresses
	own       addresses // what the spec alone lets it hand out
	parent    string    // empty for a root
	granted   addresses // what the head says that the parent has granted
	entries   []entry   // sorted by key
	remembers bool      // it has a history
	past      []string  // the names of the records of that, sorted
	missing   bool      // it has records, and no head yet or any more
	created   bool      // its head has come since the last check
}

// entry is one record that holds addresses.
type entry struct {
	key        store.Key
	held       addresses
	live       bool   // it does not cool down
	child      string // the pool that was made of it
	generation int64
	share      string   // the key by which it is shared, of a share and of each sharer
	sharers    []string // of a share
	prefixes   string   // of a share and of each sharer: what is shared
}

// isShare reports whether it is what several owners share.
func (e *entry) isShare() bool { return e.sharers != nil }

// grant is what a commit has newly given to an owner.
type grant struct {
	page *page
	key  store.Key
	held addresses
}

// addresses is a set of addresses of [universe], the lowest first.
type addresses uint64

// universe has all addresses that occur.
var universe = netip.MustParsePrefix("10.0.0.0/26")

// String returns the set as prefixes.
func (s addresses) String() string {
	var texts []string
	for ; s != 0; s &= s - 1 {
		texts = append(texts, fmt.Sprintf(".%d", bits.TrailingZeros64(uint64(s))))
	}
	return "10.0.0{" + strings.Join(texts, " ") + "}"
}

func addressesOf(prefixes ...netip.Prefix) addresses {
	var s addresses
	for _, p := range prefixes {
		s |= rangeOf(netipx.RangeOfPrefix(p))
	}
	return s
}

// addressesIn is the set of ranges that lie in the universe.
func addressesIn(ranges ...netipx.IPRange) addresses {
	var s addresses
	for _, r := range ranges {
		s |= rangeOf(r)
	}
	return s
}

func rangeOf(r netipx.IPRange) addresses {
	first, last := r.From().As4()[3], r.To().As4()[3]
	return addresses(^uint64(0)>>(63-(last-first))) << first
}

func newLedger() *ledger { return &ledger{external: map[string]addresses{}} }

// page returns that of a pool, which is made if there is none.
func (l *ledger) page(name string) *page {
	i, found := slices.BinarySearchFunc(l.pages, name, func(p *page, name string) int { return cmp.Compare(p.name, name) })
	if !found {
		l.pages = slices.Insert(l.pages, i, &page{name: name, missing: true})
	}
	return l.pages[i]
}

// find returns the page of a pool; nil if there is none.
func (l *ledger) find(name string) *page {
	for _, p := range l.pages {
		if p.name == name && !p.missing {
			return p
		}
	}
	return nil
}

// write takes note that a record was before and is now; either has revision 0 if there is none. It reports whether that
// changes anything but the form in which a pool's free space is kept.
func (l *ledger) write(before, now store.Record) bool {
	l.written = true
	switch now.Kind {
	case store.KindPool:
		return l.writeHead(now)
	case store.KindNetwork:
		l.writeNetwork(now)
		return string(before.Data) != string(now.Data)
	case store.KindHistory:
		l.writeHistory(now)
		return false
	case store.KindAllocation, store.KindCooling:
		p := l.page(now.Pool)
		l.noteEnd(before, now)
		if now.Revision > 0 {
			e := entryOf(now)
			if (e.live || e.isShare()) && (before.State != now.State || !slices.Equal(before.Prefixes, now.Prefixes)) {
				l.fresh = append(l.fresh, grant{p, e.key, e.held})
			}
			p.put(e)
		} else {
			p.drop(now.Key)
		}
		return before.State != now.State || !slices.Equal(before.Prefixes, now.Prefixes) ||
			!before.Expires.Equal(now.Expires) || string(before.Data) != string(now.Data)
	default:
		return false
	}
}

// headFacts are what the ledger reads of the data of a pool's head.
type headFacts struct {
	Spec     json.RawMessage `json:"spec"`
	Withheld json.RawMessage `json:"withheld"`
	Parent   json.RawMessage `json:"parent"`
}

func factsOf(head store.Record) (headFacts, string) {
	var facts headFacts
	if err := json.Unmarshal(head.Data, &facts); err != nil {
		return facts, err.Error()
	}
	return facts, strings.Join([]string{head.State, string(facts.Spec), string(facts.Withheld), string(facts.Parent)}, " ")
}

// isAs reports whether a head says of its pool what the ledger has.
func (l *ledger) isAs(head store.Record) bool {
	_, text := factsOf(head)
	p := l.find(head.Pool)
	return p != nil && p.facts == text
}

func (l *ledger) writeHead(head store.Record) (changed bool) {
	p := l.page(head.Pool)
	if head.Revision == 0 {
		*p = page{name: p.name, missing: true, entries: p.entries, past: p.past, remembers: p.remembers}
		return true
	}
	facts, text := factsOf(head)
	if p.facts == text {
		return false
	}
	var spec pool.Spec
	var parent parentFacts
	if err := json.Unmarshal(facts.Spec, &spec); err != nil {
		return true // which the library finds too
	}
	if len(facts.Parent) > 0 && json.Unmarshal(facts.Parent, &parent) != nil {
		return true
	}
	p.created, p.missing, p.facts = p.created || p.missing, false, text
	p.describe(spec, parent)
	return true
}

// parentFacts is what a head says of where its pool was delegated from.
type parentFacts struct {
	Pool   string
	Grants []pool.Grant
}

// describe takes over what the pool is.
func (p *page) describe(spec pool.Spec, parent parentFacts) {
	p.network, p.parent, p.granted = spec.Network, parent.Pool, 0
	p.remembers = spec.History > 0
	p.ranges, p.own = addressesIn(spec.Ranges...), addressesIn(spec.Set(pool.IPv4).Ranges()...)
	for _, g := range parent.Grants {
		p.granted |= addressesOf(g.Prefixes...)
	}
}

func (l *ledger) writeNetwork(head store.Record) {
	var facts struct {
		External []string `json:"external"`
	}
	delete(l.external, head.Pool)
	if head.Revision == 0 || json.Unmarshal(head.Data, &facts) != nil {
		return
	}
	for _, text := range facts.External {
		spec, err := pool.ParseSpec(text)
		if err == nil {
			l.external[head.Pool] |= addressesIn(spec.Ranges...)
		}
	}
}

func entryOf(r store.Record) entry {
	e := entry{key: r.Key, held: addressesOf(r.Prefixes...), live: r.State == "allocated", generation: r.Revision}
	if len(r.Data) > 0 {
		var data struct {
			Child      string         `json:"child"`
			Generation int64          `json:"generation"`
			Share      string         `json:"share"`
			Sharers    []string       `json:"sharers"`
			Prefixes   []netip.Prefix `json:"prefixes"`
		}
		if json.Unmarshal(r.Data, &data) == nil {
			e.child, e.generation = data.Child, cmp.Or(data.Generation, e.generation)
			e.share, e.sharers = data.Share, data.Sharers
		}
		if e.share != "" {
			e.prefixes = fmt.Sprint(append(data.Prefixes, r.Prefixes...))
		}
	}
	return e
}

func (p *page) index(key store.Key) (int, bool) {
	return slices.BinarySearchFunc(p.entries, key, func(e entry, key store.Key) int { return e.key.Compare(key) })
}

func (p *page) put(e entry) {
	i, found := p.index(e.key)
	if !found {
		p.entries = slices.Insert(p.entries, i, entry{})
	}
	p.entries[i] = e
}

func (p *page) drop(key store.Key) {
	if i, found := p.index(key); found {
		p.entries = slices.Delete(p.entries, i, i+1)
	}
}

// held is all that is held in the pool, also what cools down.
func (p *page) held() addresses {
	var all addresses
	for i := range p.entries {
		all |= p.entries[i].held
	}
	return all
}

// grantedTo is what is held in the pool for one that was delegated from it.
func (p *page) grantedTo(child string) addresses {
	var all addresses
	for i := range p.entries {
		if p.entries[i].child == child {
			all |= p.entries[i].held
		}
	}
	return all
}

// allowed is what a pool may hand out: what its spec lets it, less what is external, or of what its parent may hand
// out.
func (l *ledger) allowed(p *page) addresses {
	if p.parent == "" {
		return p.own &^ l.external[p.network]
	}
	parent := l.find(p.parent)
	if parent == nil {
		return 0
	}
	return p.own & p.granted & l.allowed(parent)
}
