package alarm

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/ipalloc/ipalloc/pool"
)

// Event is an alarm that is raised or cleared. It is a value; it may be copied and compared.
type Event struct {
	// Pool is the name of the pool; for one in memory, the name given to [Alarms.Named], or else empty.
	Pool string
	// Rule is the rule of the alarm, and Raised reports whether the alarm is raised now, or else cleared.
	Rule   Rule
	Raised bool
	// Stats are the counts of the family that the alarm is about. If the pool was deleted, or gave up the family, only
	// Family is set.
	Stats pool.Stats
	// Revision is that of the pool with these counts; 0 if the pool was deleted.
	Revision int64
}

// String returns, for example: pool "pods": IPv4: raised: used 90 % (cleared at 80 %); 12 of 254 addresses are free.
func (e Event) String() string {
	state := "cleared"
	if e.Raised {
		state = "raised"
	}
	return fmt.Sprintf("pool %q: %v: %s: %v; %v of %v addresses are free",
		e.Pool, e.Stats.Family, state, e.Rule, e.Stats.Free, e.Stats.Total.Sub(e.Stats.Reserved))
}

// Alarms is a [pool.Observer] that raises and clears alarms. One Alarms may observe any number of pools, and any number
// of handles of each.
//
// The zero Alarms raises none, and an Alarms must not be copied. All methods may be called by any number of goroutines
// at once.
type Alarms struct {
	pool.NoObserver
	tell  func(Event)
	rules []Rule

	mu    sync.Mutex
	pools map[string]*watched
}

// watched is what is known of a pool.
type watched struct {
	revision int64
	raised   []raised
}

// raised is an alarm that is raised.
type raised struct {
	rule   int
	family pool.Family
}

var _ pool.Observer = (*Alarms)(nil)

// New returns alarms for these rules. tell is called once when an alarm is raised and once when it is cleared, for one
// event at a time, those of one pool in the order of its changes. The call of the pool that caused it waits for tell.
// So tell should be quick, and must use neither the pool nor the Alarms; it may start a goroutine that does.
//
// Errors: [pool.ErrInvalid] for a rule whose levels make no sense.
func New(tell func(Event), rules ...Rule) (*Alarms, error) {
	for _, r := range rules {
		if err := r.validate(); err != nil {
			return nil, err
		}
	}
	return &Alarms{tell: tell, rules: slices.Clone(rules), pools: map[string]*watched{}}, nil
}

// EndCommit implements [pool.Observer].
func (a *Alarms) EndCommit(_ context.Context, commit pool.Commit) { a.end(commit.Pool, commit) }

// Named returns an observer for a pool in memory, which has no name of its own.
func (a *Alarms) Named(name string) pool.Observer { return named{alarms: a, name: name} }

type named struct {
	pool.NoObserver
	alarms *Alarms
	name   string
}

// EndCommit implements [pool.Observer].
func (n named) EndCommit(_ context.Context, commit pool.Commit) { n.alarms.end(n.name, commit) }

func (a *Alarms) end(name string, commit pool.Commit) {
	switch {
	case commit.Err != nil:
	case commit.Stats == nil:
		a.Forget(name)
	default:
		a.look(name, commit.Revision, commit.Stats)
	}
}

// Look looks at a pool that was read: when a program starts, for what other processes have done, or after a commit of
// unknown outcome. It does nothing if the Alarms have seen a later revision of the pool. For a pool in memory, set
// info.Name as for [Alarms.Named].
func (a *Alarms) Look(info pool.Info) { a.look(info.Name, info.Revision, info.Stats) }

// Forget clears the alarms of a pool, and forgets it. A pool is forgotten by itself if an observed handle deletes it.
func (a *Alarms) Forget(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.pools[name]
	if w == nil {
		return
	}
	delete(a.pools, name)
	for _, r := range w.raised {
		a.tell(Event{Pool: name, Rule: a.rules[r.rule], Stats: pool.Stats{Family: r.family}})
	}
}

func (a *Alarms) look(name string, revision int64, stats []pool.Stats) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.pools[name]
	switch {
	case len(a.rules) == 0:
		return
	case w == nil:
		w = &watched{}
		a.pools[name] = w
	case revision <= w.revision:
		return
	}
	w.revision = revision
	for i, rule := range a.rules {
		for _, family := range []pool.Family{pool.IPv4, pool.IPv6} {
			if rule.family != 0 && rule.family != family {
				continue
			}
			s := pool.Info{Stats: stats}.StatsOf(family)
			if w.changes(raised{i, family}, rule, s) {
				a.tell(Event{Pool: name, Rule: rule, Raised: w.has(raised{i, family}), Stats: s, Revision: revision})
			}
		}
	}
}

func (w *watched) has(alarm raised) bool { return slices.Contains(w.raised, alarm) }

// changes raises or clears an alarm if the counts say so, and reports whether it did.
func (w *watched) changes(alarm raised, rule Rule, s pool.Stats) bool {
	before := w.has(alarm)
	now := rule.raised(s, before)
	switch {
	case now == before:
		return false
	case now:
		w.raised = append(w.raised, alarm)
	default:
		w.raised = slices.DeleteFunc(w.raised, func(r raised) bool { return r == alarm })
	}
	return true
}
