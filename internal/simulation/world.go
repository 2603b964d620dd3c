// Package simulation runs several processes that share pools, one step at a time, in an order that a seed decides, and
// looks after each step whether what package pool promises still holds.
//
// A step is one call to the backend. Between two steps of one process any number of steps of others may happen; a
// process may die at any step, the answer to a step may be lost, a step may take effect late, and the clock may jump.
// The same seed gives the same run, to the step, so that a failure can be looked at again.
//
// A [World] has the processes and decides whose turn it is. A [Backend] is a store in memory whose calls are steps. It
// knows which [Call] made a commit, and checks after each commit the rules that hold for what is stored. A [Workload]
// is what the processes do, and checks what they are told. A driver can bring a backend of its own, whose steps are
// smaller: it calls [Process.Step] before each.
package simulation

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"
)

// World runs processes one step at a time. Use it from one goroutine.
type World struct {
	// Random decides everything.
	Random *rand.Rand
	// Steps is how many steps there were.
	Steps int
	// Rates are how often things go wrong.
	Rates Rates
	// AfterStep is called after each step, while no process runs. An error ends the run.
	AfterStep func() error
	// Choose returns which of n processes makes the next step, in the order in which they were added. Nil is any of them,
	// at random.
	Choose func(n int) int
	// Trace is told what happens, if it is not nil.
	Trace func(step int, what string)

	now, latest time.Time
	processes   []*Process
	yielded     chan *Process
	late        []func() // commits under way
	failure     error
	calm        bool // nothing goes wrong any more
	down        int  // until this step everything is refused
}

// Rates are probabilities, from 0 to 1, for each step unless they say otherwise.
type Rates struct {
	// Crash ends the process, before or after the step.
	Crash float64
	// Refuse fails the step, without effect.
	Refuse float64
	// LoseRequest and LoseReply fail a step that changes something with an unknown outcome.
	LoseRequest, LoseReply float64
	// Late is like LoseReply, but the step takes effect later, or never.
	Late float64
	// TimeOut is like Late, but the step may also take effect at once, and the error is that of a deadline.
	TimeOut float64
	// Outage is how often a step whose answer is lost begins a time in which everything is refused.
	Outage float64
	// Cancel is how often a call's context ends, before its first step or at one of its first steps. It is for each
	// call, and not for each step.
	Cancel float64
	// Jump sets the clock, forwards or backwards.
	Jump float64
}

// Some is a world in which each thing goes wrong now and then.
var Some = Rates{
	Crash: 0.006, Refuse: 0.008, LoseRequest: 0.01, LoseReply: 0.03, Late: 0.04, TimeOut: 0.02, Outage: 0.3, Cancel: 0.08,
	Jump: 0.005,
}

// NewWorld returns a world without processes.
func NewWorld(seed uint64, rates Rates) *World {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	random := rand.New(rand.NewPCG(seed, 1))
	return &World{Random: random, Rates: rates, now: start, latest: start, yielded: make(chan *Process)}
}

// Process is one process: a goroutine that runs only when it is its turn.
type Process struct {
	World *World
	Name  string

	body   func(*Process)
	resume chan bool // true to go on, false to die
	ended  bool
	dying  bool // its goroutine does nothing any more but unwind
	fates  bool // whether its steps can fail
	call   *Call
}

// Go adds a process. When its body returns, or the process dies, the body is started again, until the world becomes
// calm.
func (w *World) Go(name string, body func(*Process)) {
	p := &Process{World: w, Name: name, body: body, fates: true}
	w.processes = append(w.processes, p)
	p.start()
}

func (p *Process) start() {
	p.World.trace("%s starts", p.Name)
	p.resume, p.ended, p.dying, p.call = make(chan bool), false, false, nil
	go func() {
		defer func() {
			p.ended = true
			p.World.yielded <- p
		}()
		if !<-p.resume {
			return
		}
		p.body(p)
	}()
}

// pause gives the turn back. It does not return if the process is to die.
func (p *Process) pause() {
	p.World.yielded <- p
	if !<-p.resume {
		p.Die()
	}
}

// Run runs the processes for so many steps. Then nothing goes wrong any more, and they run to their ends.
func (w *World) Run(steps int) error {
	for w.Steps < steps && w.failure == nil {
		w.turn()
	}
	w.calm = true
	for _, land := range w.late {
		land()
	}
	w.late = nil
	for len(w.processes) > 0 && w.failure == nil {
		w.turn()
	}
	w.kill()
	return w.failure
}

// turn lets one thing happen.
func (w *World) turn() {
	w.Steps++
	if n := len(w.late); n > 0 && w.Random.IntN(40) == 0 {
		i := w.Random.IntN(n)
		land := w.late[i]
		w.late = append(w.late[:i], w.late[i+1:]...)
		if w.Random.IntN(4) > 0 { // else it never arrives
			land()
		}
	} else {
		w.advance()
		w.run(w.choose(len(w.processes)), true)
	}
	if w.AfterStep != nil && w.failure == nil {
		w.failure = w.AfterStep()
	}
}

func (w *World) choose(n int) int {
	if w.Choose == nil {
		return w.Random.IntN(n)
	}
	return w.Choose(n)
}

// run lets process i go on until its next step.
func (w *World) run(i int, on bool) {
	p := w.processes[i]
	p.resume <- on
	<-w.yielded
	if !p.ended {
		return
	}
	if w.calm {
		w.processes = append(w.processes[:i], w.processes[i+1:]...)
		return
	}
	p.start()
}

// kill ends all processes.
func (w *World) kill() {
	w.calm = true
	for len(w.processes) > 0 {
		w.run(0, false)
	}
}

// Fail ends the run. The first failure stays.
func (w *World) Fail(format string, args ...any) {
	if w.failure == nil {
		w.failure = fmt.Errorf("step %d: %s", w.Steps, fmt.Sprintf(format, args...))
	}
}

// trace tells Trace.
func (w *World) trace(format string, args ...any) {
	if w.Trace != nil {
		w.Trace(w.Steps, fmt.Sprintf(format, args...))
	}
}

// Calm reports whether nothing goes wrong any more, and bodies should come to their ends.
func (w *World) Calm() bool { return w.calm }

// Now is the time.
func (w *World) Now() time.Time { return w.now }

// Latest is the latest that it ever was.
func (w *World) Latest() time.Time { return w.latest }

// advance moves the clock on by a little, or makes it jump.
func (w *World) advance() {
	w.now = w.now.Add(time.Duration(w.Random.IntN(20)) * time.Millisecond)
	if w.chance(w.Rates.Jump) {
		w.now = w.now.Add(time.Duration(w.Random.IntN(20_000)-10_000) * time.Millisecond)
	}
	if w.now.After(w.latest) {
		w.latest = w.now
	}
}

func (w *World) chance(rate float64) bool { return !w.calm && w.Random.Float64() < rate }

// Fate is what becomes of a step.
type Fate uint8

// The fates.
const (
	Pass Fate = iota
	Refuse
	LoseRequest
	LoseReply
	Late
	CrashAfter
	TimeOut
)

// Step waits for the process's next turn, and returns what is to become of the call that follows. It does not return if
// the process dies before it. A step that reads either passes or is refused.
func (p *Process) Step(changes bool) Fate {
	p.pause()
	w := p.World
	if !p.fates {
		return Pass
	}
	if w.chance(w.Rates.Crash / 2) {
		p.Die()
	}
	if p.call != nil {
		p.call.step()
	}
	if !w.calm && w.Steps < w.down || w.chance(w.Rates.Refuse) {
		return Refuse
	}
	if !changes {
		return Pass
	}
	fate := w.fate()
	if fate != Pass && w.chance(w.Rates.Outage) {
		w.down = w.Steps + w.Random.IntN(maxOutage)
	}
	return fate
}

// maxOutage is how many steps an outage lasts at most.
const maxOutage = 40

// fate draws what becomes of a step that changes something and is not refused.
func (w *World) fate() Fate {
	for _, each := range []struct {
		rate float64
		fate Fate
	}{
		{w.Rates.LoseRequest, LoseRequest}, {w.Rates.LoseReply, LoseReply}, {w.Rates.Late, Late},
		{w.Rates.TimeOut, TimeOut}, {w.Rates.Crash / 2, CrashAfter},
	} {
		if w.chance(each.rate) {
			return each.fate
		}
	}
	return Pass
}

// Die ends the process, as a crash.
func (p *Process) Die() {
	p.dying = true
	runtime.Goexit()
}

// Postpone keeps what a step does for later.
func (w *World) Postpone(land func()) { w.late = append(w.late, land) }
