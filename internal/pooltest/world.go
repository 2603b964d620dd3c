package pooltest

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/journal"
	"github.com/ipalloc/ipalloc/store"
)

var (
	journalFor  = flag.Duration("journal.for", 0, "how long a world of processes works; 0 for a short time")
	journalKeep = flag.String("journal.keep", "", "an existing folder that the journals of a world are left in")
)

// worldTime is how long a world works if the flag does not say so.
const worldTime = 6 * time.Second

// worldProcesses is how many processes work at one time.
const worldProcesses = 3

// Network is what a process reaches a server through, and what breaks on the way. It is a proxy of package storetest.
type Network interface {
	Addr() string
	Cut()
	CutAfterRequestBytes(n int) <-chan struct{}
	CutAfterReplyBytes(n int) <-chan struct{}
	StallReplies()
	Delay(d time.Duration)
	Heal()
}

// World has several processes work on pools of one network: two roots, a range that moves between them, a child that is
// delegated again and again, the blocks of two writers, and claims over several pools. Meanwhile processes are killed
// and stopped, connections break, and calls have short deadlines. Each process keeps a journal, and in the end these
// are checked against what the store holds; see package journal.
type World struct {
	// Open opens the store, which has no pools yet, by a way that does not break.
	Open func(ctx context.Context) (store.Store, error)
	// Network makes a way to the server for one process; nil if there is no server.
	Network func(t *testing.T) Network
	// Child is the environment that makes the test that calls Run the child, which does [WorkInWorld] with the same
	// store. It reaches the server at the address, which is that of a Network.
	Child func(addr string) []string
	// Calls is after how many calls a process closes the store and opens it again; 0 for never.
	Calls int
}

// Run returns when the time is over, and all has been checked.
func (w World) Run(t *testing.T) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	folder := *journalKeep
	if folder == "" {
		folder = t.TempDir()
	}
	book, err := journal.Create(folder, "parent")
	require.NoError(t, err)
	w.create(t, book)
	r := &worldRun{
		World: w, t: t, folder: folder, book: book,
		random: rand.New(rand.NewPCG(seed, 0)), did: map[string]int{},
	}
	for n := range worldProcesses {
		r.start(n)
	}
	length := *journalFor
	if length == 0 {
		length = worldTime
	}
	for end := time.Now().Add(length); time.Now().Before(end); {
		r.trouble()
	}
	r.finish()
	end, past, faults := w.end(t, book)
	require.NoError(t, book.Close())
	t.Logf("faults: %v", r.did)
	judge(t, folder, end, past, faults)
}

func (w World) create(t *testing.T, book *journal.Journal) {
	t.Helper()
	s, err := w.Open(t.Context())
	require.NoError(t, err)
	c := newClient(book, s, nil)
	for i, name := range worldRoots {
		require.NoError(t, c.create(t.Context(), name, i == 0))
	}
	require.NoError(t, s.Close())
}

// worldRun is a world at work.
type worldRun struct {
	World
	t       *testing.T
	folder  string
	book    *journal.Journal
	random  *rand.Rand
	members [worldProcesses]*member
	started int
	deck    []string       // what is to be done to the processes next
	did     map[string]int // how often something was done to the processes
}

// member is a process that works.
type member struct {
	name    string
	network Network // nil if there is no server
	command *exec.Cmd
	input   io.Closer
	output  bytes.Buffer
}

// start starts the n-th process, or its successor.
func (r *worldRun) start(n int) {
	r.t.Helper()
	m := &member{name: fmt.Sprintf("worker-%d.%d", n, r.started)}
	r.started++
	addr := ""
	if before := r.members[n]; before != nil {
		m.network = before.network
	} else if r.Network != nil {
		m.network = r.Network(r.t)
	}
	if m.network != nil {
		addr = m.network.Addr()
	}
	timeouts := []time.Duration{50 * time.Millisecond, 400 * time.Millisecond, 3 * time.Second}
	text, err := json.Marshal(job{
		Folder: r.folder, Process: m.name, Seed: r.random.Uint64(), Calls: r.Calls,
		CommitTimeout: timeouts[r.started%len(timeouts)],
	})
	require.NoError(r.t, err)
	m.command = exec.Command(os.Args[0], "-test.run=^"+r.t.Name()+"$")
	m.command.Env = append(append(os.Environ(), r.Child(addr)...), worldJob+"="+string(text))
	m.command.Stdout, m.command.Stderr = &m.output, &m.output
	m.input, err = m.command.StdinPipe()
	require.NoError(r.t, err)
	require.NoError(r.t, m.command.Start())
	r.t.Cleanup(func() { _ = m.command.Process.Kill() })
	r.members[n] = m
}

// kill kills a process, and keeps that it is dead.
func (r *worldRun) kill(m *member) {
	r.t.Helper()
	_ = m.command.Process.Kill() // it may have ended by itself
	_ = m.command.Wait()
	if m.command.ProcessState.Exited() {
		r.failed(m)
	}
	require.NoError(r.t, r.book.Died(m.name))
}

// failed reports that a process has ended by itself, by a panic for example. The others go on.
func (r *worldRun) failed(m *member) {
	r.t.Helper()
	const most = 4000
	text := m.output.String()
	r.t.Errorf("%s failed by itself: %s", m.name, text[:min(len(text), most)])
}

// draw returns what is to be done next: everything comes up before anything comes up once more.
func (r *worldRun) draw() string {
	if len(r.deck) == 0 {
		r.deck = []string{"kill", "stop", "stop"}
		if r.Network != nil {
			r.deck = append(r.deck,
				"cut", "cut amid a request", "cut amid a reply", "cut amid a reply", "lose replies", "delay")
		}
		r.random.Shuffle(len(r.deck), func(i, j int) { r.deck[i], r.deck[j] = r.deck[j], r.deck[i] })
	}
	what := r.deck[0]
	r.deck = r.deck[1:]
	return what
}

// trouble does something to one of the processes, and lets some time pass.
func (r *worldRun) trouble() {
	r.t.Helper()
	n := r.random.IntN(worldProcesses)
	m := r.members[n]
	what := r.draw()
	r.did[what]++
	switch what {
	case "kill":
		r.kill(m)
		r.start(n)
	case "stop":
		require.NoError(r.t, suspend(m.command.Process))
		r.sleep(400 * time.Millisecond)
		require.NoError(r.t, resume(m.command.Process))
	case "cut":
		m.network.Cut()
	case "cut amid a request":
		m.network.CutAfterRequestBytes(r.random.IntN(4096))
	case "cut amid a reply":
		m.network.CutAfterReplyBytes(r.random.IntN(4096))
	case "lose replies":
		m.network.StallReplies()
		r.sleep(300 * time.Millisecond)
		m.network.Cut()
		m.network.Heal()
	case "delay":
		m.network.Delay(time.Duration(r.random.Int64N(int64(20 * time.Millisecond))))
		r.sleep(300 * time.Millisecond)
		m.network.Heal()
	}
	r.sleep(400 * time.Millisecond)
}

// sleep sleeps for a random time, of so long at most.
func (r *worldRun) sleep(most time.Duration) { time.Sleep(time.Duration(r.random.Int64N(int64(most)))) }

// finish lets the processes come to their end. One that does not is killed.
func (r *worldRun) finish() {
	r.t.Helper()
	for _, m := range r.members {
		if m.network != nil {
			m.network.Heal()
		}
		require.NoError(r.t, m.input.Close())
	}
	for _, m := range r.members {
		ended := make(chan error, 1)
		go func() { ended <- m.command.Wait() }()
		select {
		case err := <-ended:
			if err == nil {
				continue
			}
			r.failed(m)
		case <-time.After(4 * worldPatience):
			if err := m.command.Process.Kill(); err != nil {
				r.t.Errorf("kill the process %s: %v", m.name, err)
			}
			r.t.Errorf("the process %s does not end by itself: %v", m.name, <-ended)
		}
		require.NoError(r.t, r.book.Died(m.name))
	}
}
