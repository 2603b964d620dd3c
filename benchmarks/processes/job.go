// Package processes runs work in operating-system processes of their own: copies of the program that uses it. Such a
// program, or its TestMain, begins with [RunJob].
package processes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/ipalloc/ipalloc/benchmarks/durable"
)

// burstTask is the task of the processes of a burst; see [Start].
const burstTask = "burst"

// Job is what a process does: it waits for the word to go, allocates for owners of its own, and ends.
type Job struct {
	// Kind is the name of a [durable.Kind], and Address where its pool is.
	Kind, Address string
	Prefix        netip.Prefix
	// Process numbers the processes of a burst, and is part of the owners' names.
	Process int
	// Claims is how many owners it allocates for: at once, after it has opened the pool.
	Claims int
	// Apart makes it open and close the pool for each claim, one after the other, as a CNI plugin does.
	Apart bool
	// Blocks makes it allocate from blocks of its own, each large enough for all its claims.
	Blocks bool
	// Again tells that another process may have claimed for these owners, and was killed.
	Again bool
}

// Owner is the name of the n-th owner of the job.
func (j Job) Owner(n int) string { return ownerOf(j.Process, n) }

func ownerOf(process, n int) string {
	return "process-" + strconv.Itoa(process) + "/claim-" + strconv.Itoa(n)
}

// Event is what a process tells: a claim that was granted or has failed, and at its end its commits.
type Event struct {
	Owner string        `json:"owner,omitempty"`
	Addr  netip.Addr    `json:"addr,omitzero"`
	Took  time.Duration `json:"took,omitempty"`
	// Opened is the part of Took until the pool was open.
	Opened time.Duration `json:"opened,omitempty"`
	Error  string        `json:"error,omitempty"`
	Ended  bool          `json:"ended,omitempty"`
	// Commits and Conflicts are given at the end, where the kind of pool counts them.
	Commits   int `json:"commits,omitempty"`
	Conflicts int `json:"conflicts,omitempty"`
}

// RunJob does the job of a burst for which this process was started, or runs the server, and returns true. In any other
// process it returns false at once.
func RunJob() bool {
	if durable.RunServer() {
		return true
	}
	var job Job
	given, err := Given(burstTask, &job)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if err != nil || !given {
		return given
	}
	teller := &teller{to: os.Stdout}
	r := runner{job: job, teller: teller}
	if err := r.takeBlock(context.Background()); err != nil {
		teller.tell(Event{Error: err.Error()})
		return true
	}
	if err := Ready(); err != nil {
		teller.tell(Event{Error: err.Error()})
		return true
	}
	r.start = time.Now()
	if err := r.run(context.Background()); err != nil {
		teller.tell(Event{Error: err.Error()})
	}
	return true
}

// teller writes each event in one write, which a kill does not cut in two.
type teller struct {
	mu sync.Mutex
	to io.Writer
}

func (t *teller) tell(e Event) {
	line, err := json.Marshal(e)
	if err != nil {
		line = []byte(`{"error":"an event cannot be told"}`)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = t.to.Write(append(line, '\n')) // whoever started this process has gone if it cannot be written
}

// runner does a job.
type runner struct {
	job    Job
	kind   durable.Kind
	teller *teller
	start  time.Time
	end    Event
	before Event        // the commits until the word was given
	block  durable.Pool // if it allocates from blocks: it has one before the word is given, as a node has
}

// takeBlock opens the blocks of a job that allocates from blocks, unless only one process at a time can open the pool.
func (r *runner) takeBlock(ctx context.Context) (err error) {
	if !r.job.Blocks {
		return nil
	}
	if r.kind, err = durable.Find(r.job.Kind); err != nil {
		return err
	}
	if r.kind.OneAtATime {
		return nil
	}
	r.block, err = r.openBlock(ctx)
	if c, ok := r.block.(durable.Counter); err == nil && ok {
		r.before.Commits, r.before.Conflicts = c.Commits()
	}
	return err
}

func (r *runner) run(ctx context.Context) (err error) {
	if r.kind, err = durable.Find(r.job.Kind); err != nil {
		return err
	}
	if r.job.Apart {
		for n := range r.job.Claims {
			r.start = time.Now()
			if err := r.session(ctx, n, n+1); err != nil {
				return err
			}
		}
	} else if err := r.session(ctx, 0, r.job.Claims); err != nil {
		return err
	}
	r.end.Ended = true
	r.teller.tell(r.end)
	return nil
}

// session opens the pool, makes the claims from first up to last at once, and closes it.
func (r *runner) session(ctx context.Context, first, last int) error {
	pool, err := r.open(ctx)
	if err != nil {
		return err
	}
	opened := time.Since(r.start)
	var wg sync.WaitGroup
	for n := first; n < last; n++ {
		wg.Go(func() { r.claim(ctx, pool, n, opened) })
	}
	wg.Wait()
	if c, ok := pool.(durable.Counter); ok {
		commits, conflicts := c.Commits()
		r.end.Commits += commits - r.before.Commits
		r.end.Conflicts += conflicts - r.before.Conflicts
	}
	return pool.Close()
}

func (r *runner) open(ctx context.Context) (durable.Pool, error) {
	switch {
	case r.block != nil:
		return r.block, nil
	case r.job.Blocks:
		return r.openBlock(ctx)
	default:
		return r.kind.Open(ctx, r.job.Address, r.job.Prefix)
	}
}

func (r *runner) openBlock(ctx context.Context) (durable.Pool, error) {
	if r.kind.OpenBlock == nil {
		return nil, fmt.Errorf("%q has no blocks", r.kind.Name)
	}
	length := r.job.Prefix.Addr().BitLen() - bits.Len(uint(r.job.Claims-1))
	return r.kind.OpenBlock(ctx, r.job.Address, r.job.Prefix, "process-"+strconv.Itoa(r.job.Process), length)
}

func (r *runner) claim(ctx context.Context, pool durable.Pool, n int, opened time.Duration) {
	e := Event{Owner: r.job.Owner(n), Opened: opened}
	var addr netip.Addr
	var err error
	if r.job.Again && r.kind.ReleaseFirst {
		err = pool.Release(ctx, e.Owner)
	}
	if err == nil {
		addr, err = pool.Allocate(ctx, e.Owner)
	}
	e.Took = time.Since(r.start)
	if err != nil {
		e.Error = err.Error()
	} else {
		e.Addr = addr
	}
	r.teller.tell(e)
}

// Once runs a job in a fresh process, which is to make one claim, and returns its event.
func Once(ctx context.Context, job Job) (Event, error) {
	p, err := Start(ctx, burstTask, job)
	if err != nil {
		return Event{}, err
	}
	if err := errors.Join(p.AwaitReady(), p.goAhead()); err != nil {
		return Event{}, err
	}
	var got Event
	err = p.events(func(e Event) {
		if !e.Ended {
			got = e
		}
	})
	if err == nil && got.Error != "" {
		err = fmt.Errorf("in a process of its own: %s", got.Error)
	}
	return got, err
}

// goAhead gives the word, and has no more to say.
func (p *Process) goAhead() error { return errors.Join(p.Go(), p.End()) }

// events gives what the process tells to take, until it ends. A process that was killed is no error.
func (p *Process) events(take func(Event)) error {
	return p.Lines(func(line []byte) error {
		var e Event
		err := json.Unmarshal(line, &e)
		if err == nil {
			take(e)
		}
		return err
	})
}
