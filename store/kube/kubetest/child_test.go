package kubetest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
)

// envChild has the job of a process that a test starts, as JSON.
const envChild = "IPALLOC_KUBE_CHILD"

// job is what such a process does.
type job struct {
	Host      string
	CA        []byte
	Namespace string
	Name      string // begins the names of its owners
	KillAt    int64  // the number of the request at which it kills itself; 0 for never
	Answered  bool   // after the answer rather than before the request
	Owners    int    // how many it allocates for; it then releases every other one, and allocates for that again
}

const labPool = "lab"

// child does the job, and tells each result in a line as soon as it has it.
func child() int {
	var j job
	if err := json.Unmarshal([]byte(os.Getenv(envChild)), &j); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := j.run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (j job) config() *rest.Config {
	config := &rest.Config{Host: j.Host, BearerToken: writer, TLSClientConfig: rest.TLSClientConfig{CAData: j.CA}}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &killer{job: j, next: next} })
	return config
}

func (j job) run(ctx context.Context) error {
	s, err := kube.Open(ctx, j.config(), &kube.Options{Namespace: j.Namespace})
	if err != nil {
		return err
	}
	p, err := pool.Open(ctx, s, labPool, nil)
	if err != nil {
		return err
	}
	owner := func(i int) string { return fmt.Sprintf("%s/%d", j.Name, i) }
	for i := range j.Owners {
		if err := j.allocate(ctx, p, owner(i)); err != nil {
			return err
		}
	}
	for i := 0; i < j.Owners; i += 2 {
		fmt.Println("releasing", owner(i))
		if _, err := p.Release(ctx, pool.Held{Owner: owner(i)}); err != nil {
			return err
		}
		fmt.Println("released", owner(i))
		if err := j.allocate(ctx, p, owner(i)); err != nil {
			return err
		}
	}
	return s.Close()
}

func (j job) allocate(ctx context.Context, p *pool.Pool, owner string) error {
	a, err := p.Allocate(ctx, pool.Claim{Owner: owner})
	if err == nil {
		fmt.Println("granted", owner, a.Prefixes[0].Addr())
	}
	return err
}

// killer kills the process at a request.
type killer struct {
	job  job
	next http.RoundTripper
	n    atomic.Int64
}

func (k *killer) RoundTrip(r *http.Request) (*http.Response, error) {
	due := k.n.Add(1) == k.job.KillAt
	if due && !k.job.Answered {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	answer, err := k.next.RoundTrip(r)
	if due {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	return answer, err
}

// told is what a process said of each owner last.
type told map[string]string

// startChild starts a process that does the job.
func startChild(t testing.TB, j job) (wait func() (said told, killed bool)) {
	t.Helper()
	text, err := json.Marshal(j)
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envChild+"="+string(text))
	var complaints strings.Builder
	cmd.Stderr = &complaints
	output, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	return func() (told, bool) {
		said := told{}
		for lines := bufio.NewScanner(output); lines.Scan(); {
			verb, rest, _ := strings.Cut(lines.Text(), " ")
			owner, addr, _ := strings.Cut(rest, " ")
			said[owner] = strings.TrimSpace(verb + " " + addr)
		}
		err := cmd.Wait()
		killed := err != nil && cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
		if !killed {
			require.NoError(t, err, complaints.String())
		}
		return said, killed
	}
}

func (s *server) job(namespace, name string) job {
	return job{Host: "https://" + s.Addr, CA: s.CA, Namespace: namespace, Name: name, Owners: 2}
}

// createPool creates the pool lab.
func createPool(t testing.TB, s store.Store, ranges ...string) *pool.Pool {
	t.Helper()
	parsed, err := cidr.ParseRanges(ranges...)
	require.NoError(t, err)
	all := pool.FamilySpec{AllocateReserved: true}
	spec := pool.Spec{Ranges: parsed, IPv4: all, IPv6: all}
	p, err := pool.Create(t.Context(), s, labPool, spec, nil)
	require.NoError(t, err)
	return p
}

// requireHeld checks that the pool is sound, and holds what was granted last, and nothing that was released last.
func requireHeld(t testing.TB, s *kube.Store, said told) map[string]string {
	t.Helper()
	p, err := pool.Open(t.Context(), s, labPool, nil)
	require.NoError(t, err)
	report, err := p.Verify(t.Context())
	require.NoError(t, err)
	require.True(t, report.OK(), "%v", report)
	held, holders := map[string]string{}, map[string]string{}
	for a, err := range p.Allocations(t.Context()) {
		require.NoError(t, err)
		addr := a.Prefixes[0].Addr().String()
		require.NotContains(t, holders, addr, "given twice, to %s too", a.Owner)
		held[a.Owner], holders[addr] = addr, a.Owner
	}
	require.Len(t, held, report.Allocations)
	for owner, last := range said {
		verb, addr, _ := strings.Cut(last, " ")
		switch verb {
		case "granted":
			require.Equal(t, addr, held[owner], "what %s was granted", owner)
		case "released":
			if held[owner] != "" { // granted again, and killed before it was said
				require.Contains(t, holders, held[owner])
			}
		}
	}
	return held
}

// TestKilledAtEachRequest kills a process at each request of its life, before it is sent and after it is answered.
// Another process then finds all that was granted, and nothing leaked or given twice, and goes on with the same owners.
func TestKilledAtEachRequest(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	server, steps := sharedServer(t), 0
	for _, answered := range []bool{false, true} {
		namespace := newNamespace()
		heir := open(t, server.config(writer), kube.Options{Namespace: namespace, Patience: 1})
		createPool(t, heir, "10.0.0.0/22")
		for n := int64(1); ; n++ {
			j := server.job(namespace, fmt.Sprint("run-", n))
			j.KillAt, j.Answered = n, answered
			said, killed := startChild(t, j)()
			requireHeld(t, heir, said)
			j.KillAt = 0
			said, again := startChild(t, j)()
			require.False(t, again)
			require.Len(t, said, j.Owners)
			requireHeld(t, heir, said)
			if !killed {
				break
			}
			steps++
		}
		held := requireHeld(t, heir, nil)
		_, err := heir.Sweep(t.Context())
		require.NoError(t, err)
		require.Equal(t, held, requireHeld(t, heir, nil))
		requireSettled(t, server, namespace, len(held)+1)
	}
	require.Greater(t, steps, 20)
	t.Logf("killed %d processes", steps)
}
