package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/internal/commandtest"
	"github.com/ipalloc/ipalloc/internal/unmet"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
	"github.com/ipalloc/ipalloc/store/sqlite"
)

// file is a SQLite file that a test and the program share.
type file struct {
	url string
	db  *sqlite.Store
}

func newFile(t *testing.T) file {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store")
	db, err := sqlite.Open(t.Context(), path, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return file{"sqlite:" + path, db}
}

// create creates a pool in the file.
func (f file) create(t *testing.T, name string, spec pool.Spec) *pool.Pool {
	t.Helper()
	p, err := pool.Create(t.Context(), f.db, name, spec, nil)
	require.NoError(t, err)
	return p
}

// run runs the program on the file, and requires the exit code.
func (f file) run(t *testing.T, code int, args ...string) commandtest.Result {
	t.Helper()
	r := program.Run(t, t.TempDir(), f.url, args...)
	require.Equal(t, code, r.Code, "%v: %s%s", args, r.Stdout, r.Stderr)
	return r
}

func specOf(t *testing.T, texts ...string) pool.Spec {
	t.Helper()
	spec, err := pool.ParseSpec(texts...)
	require.NoError(t, err)
	return spec
}

// Somebody deletes a record by hand. The program finds what has leaked, says what repair would do, and mends it.
func TestRepair(t *testing.T) {
	f := newFile(t)
	p := f.create(t, "pods", specOf(t, "192.0.2.0/24"))
	for _, owner := range []string{"a", "b"} {
		_, err := p.Allocate(t.Context(), pool.Claim{Owner: owner})
		require.NoError(t, err)
	}
	head, err := f.db.Get(t.Context(), store.Key{Kind: store.KindPool, Pool: "pods"})
	require.NoError(t, err)
	record, err := f.db.Get(t.Context(), store.Key{Kind: store.KindAllocation, Pool: "pods", Name: "a"})
	require.NoError(t, err)
	_, err = f.db.Commit(t.Context(), store.Change{Head: head, Writes: []store.Write{{Op: store.Delete, Record: record}}})
	require.NoError(t, err)

	r := f.run(t, 5, "verify", "-o", "json")
	require.Contains(t, r.Stdout, `"192.0.2.1"`)
	require.Contains(t, r.Stderr, "something is wrong in 1 of 1 pools")
	r = f.run(t, 5, "doctor")
	require.Contains(t, r.Stdout, "leaked")
	f.run(t, 6, "repair", "pods")
	f.run(t, 5, "verify", "pods")
	r = f.run(t, 0, "repair", "pods", "--yes")
	require.Contains(t, r.Stdout, "leaked")
	f.run(t, 0, "verify", "pods")
	f.run(t, 0, "repair", "pods")
}

// A pool that cannot be read is one finding among others.
func TestCorrupt(t *testing.T) {
	f := newFile(t)
	f.create(t, "a", specOf(t, "192.0.2.0/24"))
	f.create(t, "b", specOf(t, "192.0.2.0/24"))
	f.create(t, "c", specOf(t, "192.0.2.0/24"))
	head, err := f.db.Get(t.Context(), store.Key{Kind: store.KindPool, Pool: "a"})
	require.NoError(t, err)
	head.Data = bytes.Replace(head.Data, []byte(`"spaces"`), []byte(`"places"`), 1)
	_, err = f.db.Commit(t.Context(), store.Change{Head: head})
	require.NoError(t, err)
	head, err = f.db.Get(t.Context(), store.Key{Kind: store.KindPool, Pool: "c"})
	require.NoError(t, err)
	head.State = "importing"
	_, err = f.db.Commit(t.Context(), store.Change{Head: head})
	require.NoError(t, err)
	r := f.run(t, 5, "verify")
	require.Regexp(t, `(?m)^a +false .* corrupt`, r.Stdout)
	require.Regexp(t, `(?m)^b +true`, r.Stdout)
	require.Regexp(t, `(?m)^c +false .* unfinished`, r.Stdout)
	r = f.run(t, 5, "doctor")
	require.Regexp(t, `(?m)^pools +false .* corrupt`, r.Stdout)
	require.Regexp(t, `(?m)^pool b +true`, r.Stdout)
	f.run(t, 5, "pools")
	f.run(t, 4, "show", "c")
	f.run(t, 6, "delete", "c")
	f.run(t, 0, "delete", "c", "--yes")
}

func TestDoctor(t *testing.T) {
	f := newFile(t)
	var checks []struct {
		Check, Result string
		OK            bool
	}
	look := func() (names []string) {
		t.Helper()
		require.NoError(t, json.Unmarshal([]byte(f.run(t, 0, "doctor", "-o", "json").Stdout), &checks))
		for _, c := range checks {
			require.True(t, c.OK)
			names = append(names, c.Check)
		}
		return names
	}
	require.Equal(t, []string{"program", "store", "round trip", "pools"}, look())
	require.Equal(t, "none", checks[3].Result)
	f.create(t, "pods", specOf(t, "192.0.2.0/24"))
	require.Equal(t, []string{"program", "store", "round trip", "pools", "pool pods"}, look())
	require.Regexp(t, `^sqlite \(SQLite 3\.\d+\.\d+\), opened in \d`, checks[1].Result)
	require.Regexp(t, `^median \d.*, longest \d.*, of 9$`, checks[2].Result)
	require.Contains(t, checks[3].Result, `1; the oldest is "pods", created 20`)
}

// Pools of a network, and those within a pool, are copied with what is external.
func TestCopyNetwork(t *testing.T) {
	from, to := newFile(t), newFile(t)
	spec := specOf(t, "10.0.0.0/16")
	spec.Network, spec.IPv4.AllocateReserved = "blue", true
	external := netipx.RangeOfPrefix(netip.MustParsePrefix("10.0.255.0/24"))
	require.NoError(t, pool.SetExternal(t.Context(), from.db, "blue", []netipx.IPRange{external}, false, nil))
	parent := from.create(t, "z cluster", spec)
	claim := pool.Claim{Owner: "node-1", Requests: []pool.Request{{Bits: 24}}}
	child, _, err := pool.Delegate(t.Context(), parent, claim, "a node", pool.Spec{}, nil)
	require.NoError(t, err)
	_, err = child.Allocate(t.Context(), pool.Claim{Owner: "pod"})
	require.NoError(t, err)

	r := from.run(t, 3, "copy", "a node", "nothing", "--to", to.url)
	require.Contains(t, r.Stderr, `pool not found: "nothing"`)
	r = from.run(t, 0, "copy", "--to", to.url)
	require.Equal(t, "POOL       ALLOCATIONS\nz cluster  1\na node     1\n", r.Stdout)
	require.Empty(t, r.Stderr)
	for n, err := range pool.Networks(t.Context(), to.db) {
		require.NoError(t, err)
		require.Equal(t, []netipx.IPRange{external}, n.External)
	}
	r = to.run(t, 0, "who", "10.0.0.1", "-o", "csv")
	require.Contains(t, r.Stdout, "a node,pod,10.0.0.1,")
	require.Contains(t, r.Stdout, "z cluster,node-1,10.0.0.0/24,")
	r = to.run(t, 4, "release", "z cluster", "node-1", "--yes")
	require.Contains(t, r.Stderr, "in use")

	third := newFile(t)
	other := netipx.RangeOfPrefix(netip.MustParsePrefix("10.0.254.0/24"))
	require.NoError(t, pool.SetExternal(t.Context(), third.db, "blue", []netipx.IPRange{other}, false, nil))
	r = from.run(t, 4, "copy", "--to", third.url)
	require.Contains(t, r.Stderr, `the network "blue" of the other store has the external addresses [10.0.254.0/24]`)
	require.NotContains(t, third.run(t, 0, "pools").Stdout, "cluster")
}

// The standard input is read as a file is, as kubectl fills it.
func TestAdoptStandardInput(t *testing.T) {
	f := newFile(t)
	r := f.run(t, 3, "adopt", "--from", "csv", "-")
	require.Contains(t, r.Stderr, "pool not found: the store has none; create makes one")
	f.create(t, "services", specOf(t, "10.96.0.0/16", "fd00:10:96::/112"))
	services, err := os.Open("../../adopt/kubernetes/testdata/services.yaml")
	require.NoError(t, err)
	defer services.Close()
	c := program.Command(t, t.TempDir(), f.url, "adopt", "--from", "kubernetes", "--only", "kind=Service", "-")
	c.Stdin = services
	output, err := c.CombinedOutput()
	require.NoError(t, err, string(output))
	require.Equal(t, "POOL      ADOPTED  HELD  ENDED  CLASHES\nservices  2        0     0      0\n", string(output))
	r = f.run(t, 0, "who", "fd00:10:96::1", "-o", "csv")
	require.Contains(t, r.Stdout, `services,default/kubernetes,"10.96.0.1,fd00:10:96::1",allocated`)
}

// Of very many clashes only the first are listed, unless all are asked for.
func TestAdoptManyClashes(t *testing.T) {
	f := newFile(t)
	f.create(t, "lan", specOf(t, "192.0.2.0/24"))
	table := []byte("owner,address\n")
	for i := range 1010 {
		table = fmt.Appendf(table, "host-%d,10.0.%d.%d\n", i, i/256, i%256)
	}
	file := filepath.Join(t.TempDir(), "hosts.csv")
	require.NoError(t, os.WriteFile(file, table, 0o600))
	r := f.run(t, 8, "adopt", "--from", "csv", file, "-o", "csv")
	require.Equal(t, 1001, strings.Count(r.Stdout, "\n"))
	require.Contains(t, r.Stderr, "1010 of 1010 clash, and were not adopted; 10 of them are not listed")
	r = f.run(t, 8, "adopt", "--from", "csv", file, "-o", "csv", "--all", "--dry-run")
	require.Equal(t, 1011, strings.Count(r.Stdout, "\n"))
	require.Contains(t, r.Stderr, "1010 of 1010 clash, and would not be adopted\n")
}

// A file that another process has open is waited for, for as long as --timeout says.
func TestLockedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	db, err := bolt.Open(t.Context(), path, nil)
	require.NoError(t, err)
	r := program.Run(t, t.TempDir(), "bolt:"+path, "pools", "--timeout", "1ms")
	require.Equal(t, 1, r.Code)
	require.Contains(t, r.Stderr, path)
	require.Contains(t, r.Stderr, "--timeout is 1ms")
	require.NoError(t, db.Close())
	require.Zero(t, program.Run(t, t.TempDir(), "bolt:"+path, "pools").Code)
}

// What owners are called does nothing to a terminal.
func TestNames(t *testing.T) {
	f := newFile(t)
	f.create(t, "pods", specOf(t, "192.0.2.0/24"))
	r := f.run(t, 0, "allocate", "pods", "a\x1b[31m\tb\n", "--label", "x=y\u202e")
	require.Contains(t, r.Stdout, `pods  "a\x1b[31m\tb\n"  192.0.2.1`)
	require.Contains(t, r.Stdout, `"x=y\u202e"`)
	r = f.run(t, 0, "who", "192.0.2.1", "-o", "yaml")
	require.Contains(t, r.Stdout, `owner: "a\e[31m\tb\n"`)
	f.run(t, 0, "release", "pods", "a\x1b[31m\tb\n", "--yes")
}

func TestWatch(t *testing.T) {
	f := newFile(t)
	p := f.create(t, "pods", specOf(t, "192.0.2.0/24"))
	info, err := p.Info(t.Context())
	require.NoError(t, err)
	watch := start(t, f, "watch", "pods", "--since", "0", "-o", "json")
	var change struct {
		Revision     int64
		Freed, Taken []string
	}
	read := func() {
		t.Helper()
		require.NoError(t, json.Unmarshal([]byte(watch.line(t, watch.stdout)), &change))
	}
	read()
	require.Equal(t, info.Revision, change.Revision)
	require.Equal(t, []string{"192.0.2.1-192.0.2.254"}, change.Freed)
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "a"})
	require.NoError(t, err)
	read()
	require.Equal(t, []string{"192.0.2.1"}, change.Taken)
	watch.interrupt(t)
}

func TestServe(t *testing.T) {
	f := newFile(t)
	f.create(t, "pods", specOf(t, "192.0.2.0/24"))
	serve := start(t, f, "serve", "--listen", "127.0.0.1:0")
	line := strings.Fields(serve.line(t, serve.stderr))
	require.Equal(t, "serving", line[0])
	get := func(url, host string) (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		require.NoError(t, err)
		request.Host = host
		answer, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		return answer.StatusCode, string(body)
	}
	code, body := get(line[1]+"?format=text", "")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, "pods")
	code, body = get(line[1]+"metrics", "localhost")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, `ipalloc_addresses{family="IPv4",pool="pods",state="free"} 254`)
	code, _ = get(line[1], "rebound.example")
	require.Equal(t, http.StatusForbidden, code)
	serve.interrupt(t)
}

// process is a run of the program that lasts.
type process struct {
	*exec.Cmd
	stdout, stderr *bufio.Reader
}

func start(t *testing.T, f file, args ...string) *process {
	t.Helper()
	p := &process{Cmd: program.Command(t, t.TempDir(), f.url, args...)}
	stdout, err := p.StdoutPipe()
	require.NoError(t, err)
	stderr, err := p.StderrPipe()
	require.NoError(t, err)
	p.stdout, p.stderr = bufio.NewReader(stdout), bufio.NewReader(stderr)
	require.NoError(t, p.Start())
	t.Cleanup(func() { _ = p.Process.Kill() })
	return p
}

func (p *process) line(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	line, err := r.ReadString('\n')
	require.NoError(t, err)
	return line
}

// interrupt ends the process as a person does, which is no error.
func (p *process) interrupt(t *testing.T) {
	t.Helper()
	require.NoError(t, p.Process.Signal(os.Interrupt))
	rest, err := io.ReadAll(p.stderr)
	require.NoError(t, err)
	require.Empty(t, string(rest))
	require.NoError(t, p.Wait())
}

// On a terminal a map is coloured, and long work says how far it is. In a pipe it is not and does not.
func TestTerminal(t *testing.T) {
	script, err := exec.LookPath("script")
	unmet.Skip(t, err) // it runs a program on a terminal, and is of Debian's bsdutils
	f := newFile(t)
	p := f.create(t, "pods", specOf(t, "192.0.2.0/24"))
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "a"})
	require.NoError(t, err)
	onTerminal := func(args ...string) string {
		line := fmt.Sprintf("%s --store %s %s", program.Path, f.url, strings.Join(args, " "))
		c := exec.CommandContext(t.Context(), script, "-qec", line, filepath.Join(t.TempDir(), "typescript"))
		c.Env = append(os.Environ(), "TERM=xterm")
		output, err := c.CombinedOutput()
		require.NoError(t, err, "%s", output)
		return string(output)
	}
	other := func() string { return "sqlite:" + filepath.Join(t.TempDir(), "other") }
	require.Contains(t, onTerminal("show", "pods"), "\x1b[")
	require.Contains(t, onTerminal("copy", "--to", other()), `copied 100 %, about 0s left, pool "pods"`)
	require.NotContains(t, f.run(t, 0, "show", "pods").Stdout, "\x1b")
	copied := f.run(t, 0, "copy", "--to", other())
	require.Empty(t, copied.Stderr)
	require.NotContains(t, copied.Stdout, "copied")
}
