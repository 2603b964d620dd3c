package processes

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ipalloc/ipalloc/benchmarks/durable"
)

// Burst is many processes that claim at once from one pool.
type Burst struct {
	Kind   durable.Kind
	Prefix netip.Prefix
	// Processes is how many there are, and Claims how many claims each makes.
	Processes, Claims int
	// Kill is how many of them are killed, random ones at random moments. When all have ended, as many
	// new processes claim again for their owners.
	Kill int
	// Apart makes each process open and close the pool for each claim; see [Job].
	Apart bool
	// Blocks makes each process allocate from blocks of its own.
	Blocks bool
	// Seed chooses who is killed, and when.
	Seed uint64
}

// Outcome is what came of a burst.
type Outcome struct {
	// Total is from the word to go until the last process has ended, those included that try again.
	Total time.Duration `json:"total"`
	// Slowest is the longest that a claim took, from the word to go (of a claim apart: from its begin), opening included.
	Slowest time.Duration `json:"slowest"`
	// Granted is how many owners were granted an address, and Failed how many claims failed.
	Granted int `json:"granted"`
	Failed  int `json:"failed"`
	// Killed is how many processes were killed before they had ended.
	Killed int `json:"killed"`
	// Commits and Conflicts are those of the processes that were not killed, if the pool counts them.
	Commits   int `json:"commits"`
	Conflicts int `json:"conflicts"`
	// Wrong says what must never be, a line each: duplicates, leaks, answers that were not kept.
	Wrong []string `json:"wrong,omitempty"`
}

// OK reports whether each owner has an address of its own, and nothing else is taken.
func (o Outcome) OK() bool { return o.Failed == 0 && len(o.Wrong) == 0 }

// String is one line, or more if something is wrong.
func (o Outcome) String() string {
	text := fmt.Sprintf("%v in all, slowest claim %v, "+
		"%d granted, %d failed, %d processes killed, %d commits, %d conflicts",
		o.Total.Round(time.Millisecond), o.Slowest.Round(time.Millisecond),
		o.Granted, o.Failed, o.Killed, o.Commits, o.Conflicts)
	return strings.Join(append([]string{text}, o.Wrong...), "\nwrong: ")
}

// Run makes the burst on an empty pool at the address, and audits the pool.
func (b Burst) Run(ctx context.Context, address string) (Outcome, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends what is still running after an error
	if err := b.create(ctx, address); err != nil {
		return Outcome{}, err
	}
	r := &burstRun{Burst: b, address: address, told: map[string]netip.Addr{}, random: rand.New(rand.NewPCG(b.Seed, 0))}
	if err := r.wave(ctx, r.all(), b.Kill, false); err != nil {
		return r.outcome, err
	}
	total := r.outcome.Total
	if err := r.wave(ctx, r.killed, 0, true); err != nil {
		return r.outcome, err
	}
	r.outcome.Total += total
	r.outcome.Granted, r.outcome.Killed = len(r.told), len(r.killed)
	return r.outcome, r.audit(ctx)
}

// create makes the pool, so that the burst does not begin with its creation.
func (b Burst) create(ctx context.Context, address string) error {
	pool, err := b.Kind.Open(ctx, address, b.Prefix)
	if err != nil {
		return err
	}
	return pool.Close()
}

// burstRun is a burst that runs.
type burstRun struct {
	Burst
	address string
	random  *rand.Rand

	mu      sync.Mutex
	told    map[string]netip.Addr // what processes said that an owner was granted
	killed  []int
	outcome Outcome
}

func (r *burstRun) all() []int {
	all := make([]int, r.Processes)
	for i := range all {
		all[i] = i
	}
	return all
}

// wave starts a process for each number, waits until all are ready, lets them all go at once, kills
// some, and returns when all have ended.
func (r *burstRun) wave(ctx context.Context, numbers []int, kill int, again bool) error {
	started := make([]*Process, len(numbers))
	for i, number := range numbers {
		job := Job{
			Kind: r.Kind.Name, Address: r.address, Prefix: r.Prefix, Process: number, Claims: r.Claims, Apart: r.Apart,
			Again: again, Blocks: r.Blocks,
		}
		var err error
		if started[i], err = Start(ctx, burstTask, job); err != nil {
			return err
		}
	}
	for _, p := range started {
		if err := p.AwaitReady(); err != nil {
			return err
		}
	}
	start := time.Now()
	for _, p := range started {
		if err := p.goAhead(); err != nil {
			return err
		}
	}
	strikes := r.newStrikes(started, numbers, kill)
	var wg sync.WaitGroup
	errs := make([]error, len(numbers))
	for i, p := range started {
		wg.Go(func() { errs[i] = r.follow(p, numbers[i], strikes) })
	}
	wg.Wait()
	r.outcome.Total = time.Since(start)
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// strikes are when processes of a wave are killed. They are guarded by the run's lock.
type strikes struct {
	after   []int // so many grants in all processes together, ascending
	granted int
	running map[int]*Process // by their numbers; those that may still be killed
	struck  map[int]bool
}

// newStrikes chooses when that many are killed: at any moment until most has been granted.
func (r *burstRun) newStrikes(started []*Process, numbers []int, kill int) *strikes {
	s := &strikes{running: map[int]*Process{}, struck: map[int]bool{}}
	for i, number := range numbers {
		s.running[number] = started[i]
	}
	for range min(kill, len(numbers)) {
		s.after = append(s.after, r.random.IntN(len(numbers)*r.Claims*3/4))
	}
	slices.Sort(s.after)
	return s
}

// strike kills a random one of those that run, for each moment that has come.
func (r *burstRun) strike(s *strikes) {
	for len(s.after) > 0 && s.granted >= s.after[0] && len(s.running) > 0 {
		numbers := slices.Sorted(maps.Keys(s.running))
		victim := numbers[r.random.IntN(len(numbers))]
		s.running[victim].Kill()
		delete(s.running, victim)
		s.struck[victim] = true
		s.after = s.after[1:]
	}
}

// follow records what the process tells, and strikes. A process that had just ended when it was struck
// does not count, and another one is struck.
func (r *burstRun) follow(p *Process, number int, s *strikes) error {
	ended := false
	r.mu.Lock()
	r.strike(s)
	r.mu.Unlock()
	err := p.events(func(e Event) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.take(e)
		if e.Addr.IsValid() {
			s.granted++
		}
		if e.Ended {
			ended = true
			delete(s.running, number)
			if s.struck[number] {
				s.after = append([]int{0}, s.after...)
			}
		}
		r.strike(s)
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.struck[number] && !ended {
		r.killed = append(r.killed, number)
	}
	return err
}

// take keeps what a process tells. The caller holds r.mu, if there are others.
func (r *burstRun) take(e Event) {
	r.outcome.Commits += e.Commits
	r.outcome.Conflicts += e.Conflicts
	r.outcome.Slowest = max(r.outcome.Slowest, e.Took)
	switch {
	case e.Error != "":
		r.outcome.Failed++
		r.wrong("%q failed: %s", e.Owner, e.Error)
	case e.Addr.IsValid():
		if before, ok := r.told[e.Owner]; ok && before != e.Addr && !r.Kind.ReleaseFirst {
			r.wrong("%q was granted %v, and then %v", e.Owner, before, e.Addr)
		}
		r.told[e.Owner] = e.Addr
	}
}

// mostWrong is how many lines are kept of what is wrong.
const mostWrong = 10

func (r *burstRun) wrong(format string, args ...any) {
	if len(r.outcome.Wrong) == mostWrong {
		r.outcome.Wrong = append(r.outcome.Wrong, "and more")
	}
	if len(r.outcome.Wrong) < mostWrong {
		r.outcome.Wrong = append(r.outcome.Wrong, fmt.Sprintf(format, args...))
	}
}

// audit compares what was told with each other, and with what the pool holds.
func (r *burstRun) audit(ctx context.Context) error {
	r.compareTold()
	pool, err := r.Kind.Open(ctx, r.address, r.Prefix)
	if err != nil {
		return err
	}
	if auditor, ok := pool.(durable.Auditor); ok {
		r.compare(auditor.Audit(ctx))
	}
	return pool.Close()
}

// compareTold looks for what was granted twice, and for owners who were granted nothing.
func (r *burstRun) compareTold() {
	owners := map[netip.Addr]string{}
	for owner, addr := range r.told {
		if other, twice := owners[addr]; twice {
			r.wrong("%v was granted to %q and to %q", addr, owner, other)
		}
		owners[addr] = owner
	}
	if want := r.Processes * r.Claims; len(r.told) != want {
		r.wrong("%d owners were granted an address, of %d", len(r.told), want)
	}
}

// compare looks for grants that the pool does not hold, and for what it holds without a grant.
func (r *burstRun) compare(held map[string]netip.Addr, err error) {
	if err != nil {
		r.wrong("the audit: %v", err)
		return
	}
	for owner, addr := range r.told {
		if held[owner] != addr {
			r.wrong("%q was granted %v, and holds %v", owner, addr, held[owner])
		}
	}
	for owner, addr := range held {
		if _, ok := r.told[owner]; !ok {
			r.wrong("%q holds %v and was never granted it: a leak", owner, addr)
		}
	}
}
