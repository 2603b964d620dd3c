package kube_test

import (
	"context"
	"flag"
	"fmt"
	"hash"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/simulation"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
)

var (
	steps = flag.Int("steps", 100_000, "how many requests TestSimulation makes, over all its seeds")
	long  = flag.Bool("long", false, "let TestSimulation make a million requests, whatever -steps and -short say")
)

// longSteps is how many requests a long simulation makes.
const longSteps = 1_000_000

// stepClient is how a simulated process reaches a simServer: each request is a step. Without a process it has no steps.
type stepClient struct {
	server  *simServer
	process *simulation.Process
	run     hash.Hash64 // takes in all requests of processes, and their answers
	faults  brokenSteps
	tickets int  // of the process, that are at the server
	dying   bool // the process has crashed: what it still does in deferred functions does not happen
}

// brokenSteps are steps of the protocol that are broken on purpose.
type brokenSteps struct {
	unguarded bool // objects are replaced whatever their version is
	jumped    bool // who takes the turn at a head replaces it whatever its version is
	unsettled bool // what a commit left pending is never settled, though it is said to be
	early     bool // what is prepared takes effect before the head does
	nameless  bool // rolls lose their names
}

func (c *stepClient) do(verb string, r kube.Ref, o *kube.Object) (*kube.Object, error) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	if verb == "update" && (c.faults.unguarded || c.faults.jumped && c.tickets > 0) {
		if old := c.server.objects[r]; old != nil {
			o = o.WithIdentity(old.Identity())
		}
	}
	if verb != "get" && r.Resource() != kube.RefOf(poolKey("a")).Resource() {
		if c.faults.unsettled && verb != "create" && !o.Pending() {
			return o, nil
		}
		if c.faults.early && o.Pending() {
			o = o.Decided()
		}
	}
	made, err := c.server.do(verb, r, o)
	if c.faults.nameless && made != nil && made.IsRoll() {
		made = made.WithoutNames()
	}
	if c.process != nil {
		fmt.Fprintln(c.run, c.process.Name, verb, r, c.server.version, err)
	}
	if err == nil && o != nil && o.Turn() != "" {
		c.tickets += map[string]int{"create": 1, "remove": -1}[verb]
	}
	return made, err
}

func (c *stepClient) step(verb string, r kube.Ref, o *kube.Object) (*kube.Object, error) {
	if c.process == nil {
		return c.do(verb, r, o)
	}
	switch c.fate(verb != "get") {
	case simulation.Refuse:
		return nil, simulation.ErrRefused
	case simulation.LoseRequest:
		return nil, kube.ErrUnsure
	case simulation.LoseReply:
		_, _ = c.do(verb, r, o)
		return nil, kube.ErrUnsure
	case simulation.Late:
		c.process.World.Postpone(func() { _, _ = c.do(verb, r, o) })
		return nil, kube.ErrUnsure
	case simulation.CrashAfter:
		_, _ = c.do(verb, r, o)
		c.dying = true
		c.process.Die()
	}
	return c.do(verb, r, o)
}

// fate is that of the next step.
func (c *stepClient) fate(changes bool) simulation.Fate {
	if c.dying {
		return simulation.Refuse
	}
	c.dying = true
	fate := c.process.Step(changes)
	c.dying = false
	return fate
}

func (c *stepClient) Get(_ context.Context, r kube.Ref) (*kube.Object, error) {
	return c.step("get", r, nil)
}

func (c *stepClient) Create(_ context.Context, o *kube.Object) (*kube.Object, error) {
	return c.step("create", o.Where(), o)
}

func (c *stepClient) Update(_ context.Context, o *kube.Object) (*kube.Object, error) {
	return c.step("update", o.Where(), o)
}

func (c *stepClient) Remove(_ context.Context, o *kube.Object) error {
	_, err := c.step("remove", o.Where(), o)
	return err
}

func (c *stepClient) List(_ context.Context, resource, selector, token string) (kube.Page, error) {
	if c.process == nil {
		return c.server.list(resource, selector, token)
	}
	if c.fate(false) == simulation.Refuse {
		return kube.Page{}, simulation.ErrRefused
	}
	found, err := c.server.list(resource, selector, token)
	if err == nil && strings.Contains(selector, "/turn=") {
		found = c.doubtful(found)
	}
	return found, err
}

// doubtful returns a list of tickets as it is, or at times another one: nothing may rest on their order.
func (c *stepClient) doubtful(tickets kube.Page) kube.Page {
	objects, token := kube.PageOf(tickets)
	switch random := c.process.World.Random; random.IntN(8) {
	case 0:
		return kube.NewPage(nil, "", "")
	case 1:
		for i := range objects {
			uid, _ := objects[i].Identity()
			objects[i] = objects[i].WithIdentity(uid, fmt.Sprint(1+random.IntN(1000)))
		}
	}
	return kube.NewPage(objects, token, "")
}

func (c *stepClient) Watch(ctx context.Context, _ kube.Ref, _ string) error { return ctx.Err() }

func (c *stepClient) Gone(ctx context.Context, _, _, _ string, _ func(string) bool) error {
	return ctx.Err()
}

// tidying is a handle that now and then, after a commit, does what other handles do in the background.
type tidying struct {
	*kube.Store
	process *simulation.Process
}

func (s *tidying) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	heads, err := s.Store.Commit(ctx, changes...)
	if s.process != nil && s.process.World.Random.IntN(4) == 0 {
		_ = kube.Tidy(context.WithoutCancel(ctx), s.Store)
	}
	return heads, err
}

// found is what a simulation has come to.
type found struct {
	err   error
	steps int
	run   uint64 // a hash of all requests in their order
}

// simulate runs the library's workload on a simulated API server for so many requests.
func simulate(seed uint64, steps int, faults brokenSteps) found {
	w, run := simulation.NewWorld(seed, simulation.Some), fnv.New64()
	err := simulateIn(w, run, seed, steps, faults)
	return found{err, w.Steps, run.Sum64()}
}

func simulateIn(w *simulation.World, run hash.Hash64, seed uint64, steps int, faults brokenSteps) error {
	server, names := newSimServer(), counterID("id")
	open := func(p *simulation.Process) store.Store {
		client := &stepClient{server: server, process: p, run: run, faults: faults}
		s := kube.NewStore(client, kube.Options{Patience: time.Nanosecond, Parallel: 1}, names, noPause)
		kube.WithClock(s, func() time.Time { return time.Unix(0, int64(w.Steps)*1e6) }, 200*time.Millisecond)
		return &tidying{s, p}
	}
	l, err := simulation.NewWorkload(w, open)
	if err != nil {
		return err
	}
	l.Refusals = []error{kube.ErrUnsure, store.ErrConflict}
	audited := 0
	w.AfterStep = func() error {
		if w.Steps < audited+500 {
			return nil
		}
		audited = w.Steps
		return l.Audit()
	}
	for i := range 1 + seed%3 {
		w.Go(fmt.Sprint(i), l.Body)
	}
	if err := w.Run(steps); err != nil {
		return err
	}
	return l.Audit()
}

// TestSimulation runs pools on the driver, one request of one process at a time, with crashes, lost answers and late
// requests. For a million of them: go test -run TestSimulation -args -long.
func TestSimulation(t *testing.T) {
	seed := rand.Uint64()
	if text := os.Getenv("SIMULATION_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("to run it again: SIMULATION_SEED=%d", seed)
	total := *steps
	switch {
	case *long:
		total = longSteps
	case testing.Short():
		total /= 20
	}
	const runs = 10
	for i := range uint64(runs) {
		require.NoError(t, simulate(seed+i, total/runs, brokenSteps{}).err, "SIMULATION_SEED=%d", seed+i)
	}
}

// TestReplay: the same seed gives the same run, request by request.
func TestReplay(t *testing.T) {
	for seed := range uint64(3) {
		first := simulate(seed, 2_000, brokenSteps{})
		require.NoError(t, first.err, "seed %d", seed)
		require.Equal(t, first, simulate(seed, 2_000, brokenSteps{}), "seed %d", seed)
	}
}

// Steps of the protocol that are broken on purpose are found, and found again with the same seed, at the same step. If
// several rules are broken then, an audit may name another one first.
func TestBrokenStepsAreFound(t *testing.T) {
	for name, faults := range map[string]brokenSteps{
		"guard dropped":                       {unguarded: true},
		"guard of the turn dropped":           {jumped: true},
		"roll-forward skipped":                {unsettled: true},
		"records take effect before the head": {early: true},
		"names of a roll lost":                {nameless: true},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); ; seed++ {
				first := simulate(seed, 3_000, faults)
				if first.err == nil {
					require.Less(t, seed, uint64(130), "not found")
					continue
				}
				t.Logf("seed %d: %v", seed, first.err)
				again := simulate(seed, 3_000, faults)
				require.Error(t, again.err)
				again.err = first.err
				require.Equal(t, first, again, "the same run")
				return
			}
		})
	}
}
