package postgres_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/postgres"
)

// The environment variables that make a test of this file, or of pool_process_test.go, its own child: a process that works on the pool in the schema
// that they name.
const (
	poolChildURL    = "POSTGRES_TEST_POOL_URL"
	poolChildSchema = "POSTGRES_TEST_POOL_SCHEMA"
)

// place is where a pool is.
type place struct{ url, schema string }

// childPlace is the place that this process is to work on, if it is a child.
func childPlace() (place, bool) {
	url, ok := os.LookupEnv(poolChildURL)
	return place{url, os.Getenv(poolChildSchema)}, ok
}

// startPoolChild starts the test that calls it as a child that works on the pool, and returns its output. It is killed at
// the end of the test.
func startPoolChild(t *testing.T, at place, env ...string) (*exec.Cmd, io.Reader) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(append(os.Environ(), poolChildURL+"="+at.url, poolChildSchema+"="+at.schema), env...)
	child.Stderr = os.Stderr
	output, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	t.Cleanup(func() { _ = child.Process.Kill() })
	return child, output
}

// readEvents gives what a child tells to take, until the child ends. It returns the other lines: what package testing writes,
// such as why the child failed.
func readEvents(output io.Reader, take func(crashEvent)) string {
	var others strings.Builder
	for lines := bufio.NewScanner(output); lines.Scan(); {
		var e crashEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(&others, lines.Text())
		} else {
			take(e)
		}
	}
	return others.String()
}

const (
	crashPool     = "blue"
	crashWorkers  = 16
	workerOwners  = 64  // of each worker
	settledOwners = 800 // who hold addresses all the time, scattered, so that the free space needs more than the head
)

// crashSpec is a pool of both families in which some addresses must never be handed out.
func crashSpec(t *testing.T) pool.Spec {
	t.Helper()
	ranges, err := cidr.ParseRanges("10.0.0.0/16", "fd00::/64")
	require.NoError(t, err)
	excluded, err := cidr.ParseRanges("10.0.0.8-10.0.0.15", "fd00::10-fd00::1f")
	require.NoError(t, err)
	return pool.Spec{Ranges: ranges, Exclude: excluded, Subnets: []pool.Subnet{
		{Prefix: netip.MustParsePrefix("10.0.0.0/16"), Gateway: netip.MustParseAddr("10.0.0.1")},
		{Prefix: netip.MustParsePrefix("fd00::/64"), Gateway: netip.MustParseAddr("fd00::1")},
	}}
}

// crashPlan is the claim of the n-th owner of a worker, always the same one: so asking again must give the same answer. The
// addresses asked for exactly are far from the lowest free ones.
func crashPlan(worker, n int) pool.Claim {
	c := pool.Claim{Owner: fmt.Sprintf("worker-%d/%d", worker, n)}
	switch n % 4 {
	case 0: // one IPv4 address
	case 1:
		c.Policy = pool.RequireDualStack
	case 2:
		c.Requests = []pool.Request{{Family: pool.IPv6, Bits: 124}, {Family: pool.IPv4}}
	case 3:
		c.Requests = scattered(128, worker*workerOwners+n)
	}
	return c
}

func settledClaim(n int) pool.Claim {
	return pool.Claim{Owner: fmt.Sprintf("settled/%d", n), Requests: scattered(64, n)}
}

// scattered asks for the n-th of the addresses that are strewn over a quarter of the pool.
func scattered(quarter byte, n int) []pool.Request {
	v4 := netip.AddrFrom4([4]byte{10, 0, quarter + byte(n>>4), byte(n << 4)})
	v6 := netip.AddrFrom16([16]byte{0: 0xfd, 11: quarter, 12: byte(n >> 8), 13: byte(n), 15: 7})
	return []pool.Request{pool.ExactAddr(v4), pool.ExactAddr(v6)}
}

// crashEvent is a line that a child writes: a call that begins, or one that has returned with what it granted or released.
type crashEvent struct {
	Release    bool           `json:"release,omitempty"`
	Returned   bool           `json:"returned,omitempty"`
	Owner      string         `json:"owner"`
	Prefixes   []netip.Prefix `json:"prefixes,omitempty"`
	Generation int64          `json:"generation,omitempty"`
}

// tell writes an event in one write, which a kill does not cut in two.
func tell(e crashEvent) error {
	line, err := json.Marshal(e)
	if err == nil {
		_, err = os.Stdout.Write(append(line, '\n'))
	}
	return err
}

// allocateTold allocates between two events.
func allocateTold(ctx context.Context, p *pool.Pool, c pool.Claim) error {
	e := crashEvent{Owner: c.Owner}
	if err := tell(e); err != nil {
		return err
	}
	a, err := p.Allocate(ctx, c)
	if err != nil {
		return err
	}
	e.Returned, e.Prefixes, e.Generation = true, a.Prefixes, a.Generation
	return tell(e)
}

// releaseTold releases between two events. An owner who holds nothing is one of the answers.
func releaseTold(ctx context.Context, p *pool.Pool, owner string) error {
	e := crashEvent{Owner: owner, Release: true}
	if err := tell(e); err != nil {
		return err
	}
	a, err := p.Release(ctx, owner)
	if err != nil && !errors.Is(err, pool.ErrNotFound) {
		return err
	}
	e.Returned, e.Prefixes, e.Generation = true, a.Prefixes, a.Generation
	return tell(e)
}

// workForEver is the child of the tests below: its workers allocate and release, each for owners of its own.
func workForEver(t *testing.T, at place) {
	s, err := postgres.Open(t.Context(), at.url, &postgres.Options{Schema: at.schema})
	require.NoError(t, err)
	p, err := pool.Open(t.Context(), s, crashPool, nil)
	require.NoError(t, err)
	failed := make(chan error)
	for worker := range crashWorkers {
		go func() { failed <- work(t.Context(), p, worker) }()
	}
	require.NoError(t, <-failed)
}

func work(ctx context.Context, p *pool.Pool, worker int) error {
	for {
		c := crashPlan(worker, rand.IntN(workerOwners))
		var err error
		if rand.IntN(2) == 0 {
			err = allocateTold(ctx, p, c)
		} else {
			err = releaseTold(ctx, p, c.Owner)
		}
		if err != nil {
			return err
		}
	}
}

// crashModel is what a pool must hold, as far as its children have told.
type crashModel struct {
	claims  map[string]pool.Claim
	held    map[string]pool.Allocation
	begun   map[string]crashEvent // calls that have not returned, with the newest generation when each began
	newest  int64
	holders map[netip.Addr]string // of all that is held; it may be of one who is releasing it
}

func newCrashModel() *crashModel {
	m := &crashModel{
		claims: map[string]pool.Claim{}, held: map[string]pool.Allocation{},
		begun: map[string]crashEvent{}, holders: map[netip.Addr]string{},
	}
	for worker := range crashWorkers {
		for n := range workerOwners {
			c := crashPlan(worker, n)
			m.claims[c.Owner] = c
		}
	}
	return m
}

// note takes in an event of a child that still ran, and checks the answer in it.
func (m *crashModel) note(t *testing.T, e crashEvent) {
	t.Helper()
	call, begun := m.begun[e.Owner]
	require.Equal(t, begun, e.Returned, "a call returns once")
	if !e.Returned {
		e.Generation = m.newest
		m.begun[e.Owner] = e
		return
	}
	require.Equal(t, call.Release, e.Release)
	held, holds := m.held[e.Owner]
	if holds || e.Release { // the same owner gets the same answer, and releases what it got
		require.Equal(t, held.Prefixes, e.Prefixes, "what %v holds", e.Owner)
		require.Equal(t, held.Generation, e.Generation, "what %v holds", e.Owner)
	}
	switch {
	case e.Release:
		m.release(e.Owner)
	case !holds:
		require.Greater(t, e.Generation, call.Generation)
		m.grant(t, pool.Allocation{Owner: e.Owner, Prefixes: e.Prefixes, Generation: e.Generation})
	}
	delete(m.begun, e.Owner)
}

// grant makes the owner hold what nobody else may hold, unless he is releasing it.
func (m *crashModel) grant(t *testing.T, a pool.Allocation) {
	t.Helper()
	requireAnswers(t, m.claims[a.Owner], a)
	for addr := range addrsOf(a.Prefixes) {
		other, taken := m.holders[addr]
		require.True(t, !taken || other == a.Owner || m.begun[other].Release, "%v is held by %s and %s", addr, other, a.Owner)
		m.holders[addr] = a.Owner
	}
	m.held[a.Owner] = a
	m.newest = max(m.newest, a.Generation)
}

func (m *crashModel) release(owner string) {
	for addr := range addrsOf(m.held[owner].Prefixes) {
		if m.holders[addr] == owner {
			delete(m.holders, addr)
		}
	}
	delete(m.held, owner)
}

// requireAnswers checks that an allocation is of the form that the claim asks for.
func requireAnswers(t *testing.T, c pool.Claim, a pool.Allocation) {
	t.Helper()
	want := c.Requests
	if want == nil {
		want = []pool.Request{{Family: pool.IPv4}}
		if c.Policy == pool.RequireDualStack {
			want = append(want, pool.Request{Family: pool.IPv6})
		}
	}
	require.Len(t, a.Prefixes, len(want))
	for i, p := range a.Prefixes {
		switch r := want[i]; {
		case r.Exact.IsValid():
			require.Equal(t, r.Exact, p)
		case r.Bits != 0:
			require.Equal(t, r.Bits, p.Bits())
		default:
			require.Equal(t, r.Family, pool.FamilyOf(p.Addr()))
			require.True(t, p.IsSingleIP())
		}
	}
}

// addrsOf are the addresses of prefixes, of which none is large.
func addrsOf(prefixes []netip.Prefix) map[netip.Addr]bool {
	addrs := map[netip.Addr]bool{}
	for _, p := range prefixes {
		for addr := p.Addr(); p.Contains(addr); addr = addr.Next() {
			addrs[addr] = true
		}
	}
	return addrs
}

// settle compares the model with what the pool holds after a kill. A call that had not returned may have taken effect or not:
// the model then goes on with what was found. It returns how many such calls had taken effect, and how many not.
func (m *crashModel) settle(t *testing.T, found map[string]pool.Allocation) (done, undone int) {
	t.Helper()
	var granted []pool.Allocation
	for owner, call := range m.begun {
		_, held := m.held[owner]
		a, holds := found[owner]
		switch {
		case call.Release != held: // asked again, or released nothing: no effect in any case
		case held == holds:
			undone++
		case call.Release:
			m.release(owner)
			done++
		default:
			require.Greater(t, a.Generation, call.Generation)
			granted = append(granted, a)
			done++
		}
	}
	clear(m.begun)
	for _, a := range granted {
		m.grant(t, a)
	}
	for owner, want := range m.held {
		a, holds := found[owner]
		require.True(t, holds, "%s has lost %v", owner, want.Prefixes)
		require.Equal(t, want.Prefixes, a.Prefixes, "what %s was granted", owner)
		require.Equal(t, want.Generation, a.Generation, "what %s was granted", owner)
	}
	for owner, a := range found {
		_, holds := m.held[owner]
		require.True(t, holds, "%s has released %v, which is held", owner, a.Prefixes)
	}
	return done, undone
}

// TestPoolKilled kills a child whose workers allocate and release, at random moments. What the child had told to be granted
// must be held, what it had told to be released must be free, and what was under way is one or the other, whole.
func TestPoolKilled(t *testing.T) {
	if at, ok := childPlace(); ok {
		workForEver(t, at)
		return
	}
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	url := sharedServer(t).url("postgres")
	at, db := place{url + "&application_name=" + poolChildName, newSchema()}, connect(t, url)
	killAgain(t, at, 2000, true, func(child *exec.Cmd) error { return child.Process.Kill() }, func() error { return awaitSessions(t, db) })
}

// poolChildName is the name of the sessions of children.
const poolChildName = "ipalloc_child"

// awaitSessions waits until the sessions of a child that was killed have ended: what they were doing they do to the end.
func awaitSessions(t *testing.T, db *pgxpool.Pool) error {
	for deadline := time.Now().Add(20 * time.Second); ; {
		n := 0
		err := db.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", poolChildName).Scan(&n)
		if err == nil && n > 0 && time.Now().After(deadline) {
			err = fmt.Errorf("%d sessions of a killed process are still there", n)
		}
		if err != nil || n == 0 {
			return err
		}
	}
}

// TestServerKilled kills the server amid the work of such a child: with SIGKILL to the process that starts all others, whose sessions so end by and by, and with an immediate
// shutdown. In either case it recovers from its log.
func TestServerKilled(t *testing.T) {
	if at, ok := childPlace(); ok {
		workForEver(t, at)
		return
	}
	if testing.Short() {
		t.Skip("starts and kills a server")
	}
	s := ownServer(t)
	for _, signal := range []os.Signal{syscall.SIGQUIT, syscall.SIGKILL} {
		cutsOff := signal == syscall.SIGQUIT // a session that lost its parent first answers
		t.Run(signal.String(), func(t *testing.T) {
			at := place{s.url("postgres"), newSchema()}
			killAgain(t, at, 300, cutsOff, func(*exec.Cmd) error { return s.stop(signal) }, s.restart)
		})
	}
}

// killAgain kills, as kill does, what a child works with, has it come back, and compares all that the pool says with what the child has told; until so many calls had
// returned, and of those that had not some had taken effect, if kill cuts off answers, and some not.
func killAgain(t *testing.T, at place, wanted int, cutsOff bool, kill func(child *exec.Cmd) error, back func() error) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	m := newCrashModel()
	createCrashPool(t, at, m)
	const rounds, maxRounds = 8, 100
	calls, done, undone := 0, 0, 0
	// A few of the kills come between a commit and its answer; rarely none of the first ones does.
	for round := 0; round < rounds || round < maxRounds && (calls < wanted || cutsOff && done == 0 || undone == 0); round++ {
		calls += killAmidWork(t, at, time.Duration(random.Int64N(int64(200*time.Millisecond))), m, kill)
		require.NoError(t, back())
		roundDone, roundUndone := checkKilledPool(t, at, m)
		done, undone = done+roundDone, undone+roundUndone
	}
	t.Logf("%d calls returned; of those cut off, %d had taken effect and %d had not", calls, done, undone)
	require.GreaterOrEqual(t, calls, wanted)
	if cutsOff {
		require.Positive(t, done, "no kill came between a commit and its answer")
	}
	require.Positive(t, undone, "no kill came before a commit")
}

// createCrashPool makes the pool, and what is held all the time.
func createCrashPool(t *testing.T, at place, m *crashModel) {
	t.Helper()
	s := open(t, at.url, at.schema)
	p, err := pool.Create(t.Context(), s, crashPool, crashSpec(t), nil)
	require.NoError(t, err)
	var claims []pool.Claim
	for n := range settledOwners {
		c := settledClaim(n)
		m.claims[c.Owner] = c
		claims = append(claims, c)
	}
	for _, a := range allocateAll(t, p, claims) {
		m.grant(t, a)
	}
	requireSpaceOutsideHead(t, s)
	require.NoError(t, s.Close())
}

// allocateAll allocates from many goroutines, so that there are few commits.
func allocateAll(t testing.TB, p *pool.Pool, claims []pool.Claim) []pool.Allocation {
	t.Helper()
	const goroutines = 256
	allocations, errs := make([]pool.Allocation, len(claims)), make([]error, len(claims))
	var wg sync.WaitGroup
	for first := range goroutines {
		wg.Go(func() {
			for i := first; i < len(claims); i += goroutines {
				allocations[i], errs[i] = p.Allocate(t.Context(), claims[i])
			}
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	return allocations
}

// requireSpaceOutsideHead checks that the free space is so fragmented that it needs records of its own, which are then
// part of what a kill may tear.
func requireSpaceOutsideHead(t *testing.T, s store.Store) {
	t.Helper()
	records := 0
	for _, err := range s.List(t.Context(), store.KindSpace, crashPool) {
		require.NoError(t, err)
		records++
	}
	require.Positive(t, records)
}

// killAmidWork runs a child and kills it, or what it needs, so long after the first call has returned. It returns how many calls did.
func killAmidWork(t *testing.T, at place, life time.Duration, m *crashModel, kill func(child *exec.Cmd) error) int {
	t.Helper()
	child, output := startPoolChild(t, at)
	returned, killed := 0, make(chan error, 1)
	others := readEvents(output, func(e crashEvent) {
		m.note(t, e)
		if !e.Returned {
			return
		}
		if returned++; returned == 1 {
			time.AfterFunc(life, func() { killed <- kill(child) })
		}
	})
	require.Error(t, child.Wait(), "the child ended by itself: %s", others)
	require.Positive(t, returned, "the child failed by itself: %s", others)
	require.NoError(t, <-killed)
	return returned
}

// checkKilledPool opens the pool and compares all that the pool says with the model. It returns what settle does.
func checkKilledPool(t *testing.T, at place, m *crashModel) (done, undone int) {
	t.Helper()
	s := open(t, at.url, at.schema)
	p, err := pool.Open(t.Context(), s, crashPool, nil)
	require.NoError(t, err)
	found := requireConsistent(t, p)
	done, undone = m.settle(t, found)
	for _, a := range m.held {
		got, err := p.Lookup(t.Context(), a.Prefixes[0].Addr())
		require.NoError(t, err)
		require.Equal(t, a.Owner, got.Owner)
	}
	require.NoError(t, s.Close())
	return done, undone
}

// requireConsistent checks that no address is held twice, that Verify finds nothing wrong, and that the counts equal a recount.
// It returns what is held.
func requireConsistent(t *testing.T, p *pool.Pool) map[string]pool.Allocation {
	t.Helper()
	found, holders, used := map[string]pool.Allocation{}, map[netip.Addr]string{}, map[pool.Family]uint64{}
	for a, err := range p.Allocations(t.Context()) {
		require.NoError(t, err)
		found[a.Owner] = a
		for addr := range addrsOf(a.Prefixes) {
			other, taken := holders[addr]
			require.False(t, taken, "%s and %s hold %v", other, a.Owner, addr)
			holders[addr] = a.Owner
			used[pool.FamilyOf(addr)]++
		}
	}
	report, err := p.Verify(t.Context())
	require.NoError(t, err)
	require.True(t, report.OK(), "%v", report)
	require.Equal(t, len(found), report.Allocations)
	info, err := p.Info(t.Context())
	require.NoError(t, err)
	for _, s := range info.Stats {
		require.Equal(t, cidr.CountOf(used[s.Family]), s.Used, "%v", s.Family)
		free := cidr.Size(info.Spec.Set(s.Family)).Sub(s.Used)
		require.Equal(t, free, s.Free, "%v", s.Family)
		require.Equal(t, s.Total, s.Used.Add(s.Free).Add(s.Reserved), "%v", s.Family)
	}
	return found
}

// crashTime is some time.
var crashTime = time.Date(2024, 2, 29, 12, 0, 0, 123456000, time.UTC)
