package main

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store/bolt"
)

const (
	v1alpha1Pool = "testdata/inclusterippool-v1alpha1.yaml"
	v1alpha2Pool = "testdata/inclusterippool-v1alpha2.yaml"
	globalPool   = "testdata/globalinclusterippool-v1alpha2.yaml"
)

// desk is a folder to run commands in, with a file for the pools.
type desk struct {
	t      *testing.T
	folder string
	db     string
}

func newDesk(t *testing.T) desk {
	folder := t.TempDir()
	return desk{t: t, folder: folder, db: filepath.Join(folder, "ipalloc.db")}
}

// path is that of a file in the folder, with the given content.
func (d desk) path(name, content string) string {
	d.t.Helper()
	path := filepath.Join(d.folder, name)
	require.NoError(d.t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// try runs a command on the desk's file.
func (d desk) try(args ...string) (status int, stdout, stderr string) {
	return try(append([]string{"-db", d.db}, args...)...)
}

func try(args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = run(context.Background(), args, &out, &errs)
	return status, out.String(), errs.String()
}

// ok runs a command that must succeed and returns what it prints.
func (d desk) ok(args ...string) string {
	d.t.Helper()
	status, stdout, stderr := d.try(args...)
	require.Zero(d.t, status, stderr)
	require.Empty(d.t, stderr)
	return stdout
}

// refused runs a command that must fail with one line that has all the parts, and must not change the file.
func (d desk) refused(args []string, parts ...string) {
	d.t.Helper()
	before := d.content()
	status, stdout, stderr := d.try(args...)
	assertRefused(d.t, status, stdout, stderr, parts)
	assert.Equal(d.t, before, d.content(), "the files have changed")
}

// content is that of each file in the folder.
func (d desk) content() map[string]string {
	d.t.Helper()
	content := map[string]string{}
	entries, err := os.ReadDir(d.folder)
	require.NoError(d.t, err)
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(d.folder, entry.Name()))
		require.NoError(d.t, err)
		content[entry.Name()] = string(data)
	}
	return content
}

func assertRefused(t *testing.T, status int, stdout, stderr string, parts []string) {
	t.Helper()
	assert.Equal(t, 1, status)
	assert.Empty(t, stdout)
	assert.Regexp(t, `^quickstart: [^\n]+\n$`, stderr)
	for _, part := range parts {
		assert.Contains(t, stderr, part)
	}
}

// rows are the lines of a table that begin with the given word, with single spaces between columns.
func rows(output, word string) []string {
	var found []string
	for line := range strings.Lines(output) {
		if columns := strings.Fields(line); len(columns) > 0 && columns[0] == word {
			found = append(found, strings.Join(columns, " "))
		}
	}
	return found
}

// assertHolds asserts what the owner holds by the printed table; nothing if addresses is empty.
func assertHolds(t *testing.T, output, owner, addresses string) {
	t.Helper()
	found := rows(output, owner)
	if addresses == "" {
		assert.Empty(t, found)
		return
	}
	require.Len(t, found, 1, output)
	assert.Regexp(t, "^"+regexp.QuoteMeta(owner+" "+addresses)+` \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$`, found[0])
}

// assertCounts asserts total, used, free and reserved of a family by the printed table.
func assertCounts(t *testing.T, output, family, counts string) {
	t.Helper()
	assert.Equal(t, []string{family + " " + counts}, rows(output, family))
}

func TestSameOwnersSameAddresses(t *testing.T) {
	d := newDesk(t)
	first := d.ok("alice", "bob")
	assertHolds(t, first, "alice", "192.0.2.2, 2001:db8::2")
	assertHolds(t, first, "bob", "192.0.2.3, 2001:db8::3")
	assertCounts(t, first, "IPv4", "256 2 251 3")
	assertCounts(t, first, "IPv6", "18446744073709551616 2 18446744073709551612 2")

	assert.Equal(t, first, d.ok("alice", "bob"))
	assert.Equal(t, first, d.ok("bob", "alice", "bob"))
	assert.Equal(t, first, d.ok())

	third := d.ok("carol", "alice")
	assert.Regexp(t, `(?s)OWNER.*\nalice .*\nbob .*\ncarol .*\nFAMILY`, third, "the table is sorted by owner")
	assertHolds(t, third, "alice", "192.0.2.2, 2001:db8::2")
	assertHolds(t, third, "carol", "192.0.2.4, 2001:db8::4")
}

func TestRelease(t *testing.T) {
	d := newDesk(t)
	d.ok("alice", "bob", "carol")
	released := d.ok("-release", "alice", "bob", "alice")
	assertHolds(t, released, "alice", "")
	assertHolds(t, released, "bob", "")
	assertHolds(t, released, "carol", "192.0.2.4, 2001:db8::4")
	assertCounts(t, released, "IPv4", "256 1 252 3")

	d.refused([]string{"-release", "alice"},
		`release for "alice": not found: this owner holds nothing`, "built-in:dual-stack", "nothing was released")
	d.refused([]string{"-release", "carol", "alice"}, `release for "alice": not found`)
	assertHolds(t, d.ok(), "carol", "192.0.2.4, 2001:db8::4")

	assertHolds(t, d.ok("dave"), "dave", "192.0.2.2, 2001:db8::2")
}

func TestNoOwnersPrintsTheTable(t *testing.T) {
	d := newDesk(t)
	output := d.ok()
	assert.True(t, strings.HasPrefix(output, "Pool built-in:dual-stack\n\nOWNER   ADDRESSES   SINCE\n\nFAMILY "), output)
	assertCounts(t, output, "IPv4", "256 0 253 3")
}

func TestPoolsFromFiles(t *testing.T) {
	for _, c := range []struct{ file, name, n1, n2, counts string }{
		{v1alpha1Pool, "default/inclusterippool", "10.10.10.200", "10.10.10.201", "51 2 49 0"},
		{v1alpha2Pool, "default/inclusterippool", "10.10.10.2", "10.10.10.3", "101 2 99 0"},
		{globalPool, "inclusterippool", "10.10.10.2", "10.10.10.3", "101 2 99 0"},
	} {
		t.Run(filepath.Base(c.file), func(t *testing.T) {
			d := newDesk(t)
			output := d.ok("-pool", c.file, "n1", "n2")
			assert.Contains(t, output, "Pool "+c.name+"\n")
			assertHolds(t, output, "n1", c.n1)
			assertHolds(t, output, "n2", c.n2)
			assertCounts(t, output, "IPv4", c.counts)
			assert.Empty(t, rows(output, "IPv6"))
			assert.Equal(t, output, d.ok("-pool", c.file, "n2", "n1"))
			assertHolds(t, d.ok("-pool", c.file, "-release", "n1"), "n1", "")
		})
	}
}

func TestPoolsInOneFileAreApart(t *testing.T) {
	d := newDesk(t)
	d.ok("a")
	d.ok("-pool", v1alpha2Pool, "b")
	d.ok("-pool", globalPool, "c")
	assertHolds(t, d.ok("-pool", v1alpha2Pool), "c", "")
	assertHolds(t, d.ok("-pool", globalPool), "c", "10.10.10.2")
	assertHolds(t, d.ok(), "b", "")
	d.refused([]string{"-pool", globalPool, "-release", "b"}, `pool "inclusterippool": release for "b": not found`)
}

const smallPool = `
apiVersion: ipam.cluster.x-k8s.io/v1alpha2
kind: InClusterIPPool
metadata: {name: small}
spec:
  addresses: [10.0.0.1-10.0.0.4]
  prefix: 24
  gateway: 10.0.0.1
`

func TestExhausted(t *testing.T) {
	d := newDesk(t)
	file := d.path("small.yaml", smallPool)
	d.refused([]string{"-pool", file, "a", "b", "c", "d"},
		`the pool "default/small" is too small`, "4 owners need an IPv4 address each, and it has 3")
	assert.NoFileExists(t, d.db)

	d.ok("-pool", file, "a", "b")
	d.refused([]string{"-pool", file, "a", "c", "d"},
		`pool "default/small": allocate for "d": exhausted`, "nothing was allocated")
	full := d.ok("-pool", file, "a", "c")
	assertHolds(t, full, "c", "10.0.0.4")
	assertCounts(t, full, "IPv4", "4 3 0 1")
	assert.Equal(t, full, d.ok("-pool", file, "c", "b", "a"), "owners who hold something need nothing more")
	d.refused([]string{"-pool", file, "d"}, "exhausted", "free addresses: 0 of 3")

	d.ok("-pool", file, "-release", "b")
	assertHolds(t, d.ok("-pool", file, "d"), "d", "10.0.0.3")
}

func TestPoolChanged(t *testing.T) {
	for _, c := range []struct{ old, now, counts string }{
		{"10.0.0.1-10.0.0.4", "10.0.0.1-10.0.0.5", "5 2 2 1"},
		{"gateway: 10.0.0.1", "gateway: 10.0.0.4", "4 2 1 1"},
		{"prefix: 24", "prefix: 29", "4 2 1 1"},
		{"prefix: 24", "prefix: 24\n  excludedAddresses: [10.0.0.4]", "4 2 0 2"},
		{"10.0.0.1-10.0.0.4", "10.0.0.3-10.0.0.4, 10.0.0.1-10.0.0.2", "4 2 1 1"},
	} {
		t.Run(c.now, func(t *testing.T) {
			d := newDesk(t)
			file := d.path("small.yaml", smallPool)
			d.ok("-pool", file, "a")
			d.path("small.yaml", strings.Replace(smallPool, c.old, c.now, 1))
			output := d.ok("-pool", file, "a", "b")
			assertHolds(t, output, "a", "10.0.0.2")
			assertCounts(t, output, "IPv4", c.counts)
		})
	}
	for _, c := range []struct{ old, now string }{
		{"10.0.0.1-10.0.0.4", "10.0.0.3-10.0.0.4"},
		{"gateway: 10.0.0.1", "gateway: 10.0.0.2"},
		{"prefix: 24", "prefix: 24\n  excludedAddresses: [10.0.0.2]"},
	} {
		t.Run("strands: "+c.now, func(t *testing.T) {
			d := newDesk(t)
			file := d.path("small.yaml", smallPool)
			d.ok("-pool", file, "a")
			d.path("small.yaml", strings.Replace(smallPool, c.old, c.now, 1))
			for _, args := range [][]string{{"a"}, {"b"}, {}} {
				d.refused(append([]string{"-pool", file}, args...),
					`pool "default/small": update: allocations would be out of range: 1: "a" holds [10.0.0.2/32]`)
			}
			assertHolds(t, d.ok("-pool", file, "-release", "a"), "a", "")
			d.ok("-pool", file, "b")
		})
	}
}

func TestBadInput(t *testing.T) {
	d := newDesk(t)
	d.ok("alice")
	bad := d.path("bad.yaml", strings.Replace(smallPool, "24", "33", 1))
	worse := d.path("worse.yaml", strings.NewReplacer("24", "133", "10.0.0.1-10.0.0.4", "10").Replace(smallPool))
	two := d.path("two.yaml", smallPool+"---"+strings.Replace(smallPool, "small", "other", 1))
	list := d.path("list.yaml", "- a\n- b\n")
	missing := filepath.Join(d.folder, "missing.yaml")
	for _, c := range []struct {
		name string
		args []string
		want []string
	}{
		{"invalid pool", []string{"-pool", bad, "a"}, []string{bad + `:7: spec.prefix: "33" is out of range, want 1 to 32`}},
		{"two errors", []string{"-pool", worse, "a"},
			[]string{worse + `:6: spec.addresses[0]: "10" is`, "; " + worse + `:7: spec.prefix: "133" is out of range`}},
		{"two pools", []string{"-pool", two, "a"}, []string{two + " has 2 pools, want one"}},
		{"no pool", []string{"-pool", list, "a"}, []string{list + ":1: is a list, want fields with values"}},
		{"the store as a pool", []string{"-pool", d.db, "a"}, []string{d.db + ": the text is not YAML"}},
		{"no such pool file", []string{"-pool", missing, "a"}, []string{missing, "no such file"}},
		{"file name of two lines", []string{"-pool", missing + "\nx", "a"}, []string{missing + `\nx`}},
		{"folder as a pool", []string{"-pool", d.folder, "a"}, []string{d.folder, "is a directory"}},
		{"empty owner", []string{"bob", ""}, []string{`the owner "" is empty`}},
		{"owner with NUL", []string{"bob", "x\x00y"}, []string{`the owner "x\x00y" cannot be one`}},
		{"owner that is not UTF-8", []string{"bob", "\xff"}, []string{`the owner "\xff" cannot be one`}},
		{"long owner", []string{"bob", strings.Repeat("x", 1025)}, []string{`the owner "xxxx`, "1024"}},
		{"flag after an owner", []string{"alice", "-release"}, []string{`the owner "-release" looks like a flag`}},
		{"unknown flag", []string{"-relaese", "alice"}, []string{"-relaese"}},
		{"flag without its value", []string{"-pool"}, []string{"-pool"}},
		{"release of nobody", []string{"-release"}, []string{"-release names no owner"}},
		{"release from a pool that is not there", []string{"-pool", globalPool, "-release", "alice"},
			[]string{`"inclusterippool"`, "not found"}},
		{"empty db", []string{"-db", "", "alice"}, []string{"-db is empty"}},
	} {
		t.Run(c.name, func(t *testing.T) { desk{t: t, folder: d.folder, db: d.db}.refused(c.args, c.want...) })
	}
}

func TestBadStores(t *testing.T) {
	d := newDesk(t)
	d.ok("alice")
	whole, err := os.ReadFile(d.db)
	require.NoError(t, err)
	other := filepath.Join(d.folder, "other.db")
	db, err := bbolt.Open(other, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	for _, c := range []struct {
		name, db string
		want     []string
	}{
		{"text", d.path("text.db", "hello\n"), []string{"not an ipalloc store"}},
		{"long text", d.path("long.db", strings.Repeat("hello\n", 10000)), []string{"not an ipalloc store"}},
		{"empty", d.path("empty.db", ""), []string{"store file is damaged"}},
		{"cut off", d.path("cut.db", string(whole[:len(whole)/2])), []string{"store file is damaged"}},
		{"zeros", d.path("zeros.db", string(make([]byte, len(whole)))), nil},
		{"of another program", other, []string{"not an ipalloc store"}},
		{"folder", d.folder, []string{"not an ipalloc store"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, args := range [][]string{{"alice"}, {}, {"-release", "alice"}} {
				desk{t: t, folder: d.folder, db: c.db}.refused(args, append(c.want, c.db)...)
			}
		})
	}
}

func TestDamagedContent(t *testing.T) {
	d := newDesk(t)
	d.ok("alice")
	whole, err := os.ReadFile(d.db)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(d.db, bytes.ReplaceAll(whole, []byte(`"format":1`), []byte(`"format":x`)), 0o600))
	d.refused([]string{"bob"}, "damaged")
}

func TestMissingFolder(t *testing.T) {
	d := newDesk(t)
	d.db = filepath.Join(d.folder, "missing", "ipalloc.db")
	d.refused([]string{"alice"}, "there is no folder "+filepath.Dir(d.db), "ipalloc.db")
	d.refused([]string{"-release", "alice"}, "there is no file "+d.db)
	assert.NoDirExists(t, filepath.Dir(d.db))
}

func TestReleaseCreatesNothing(t *testing.T) {
	d := newDesk(t)
	d.refused([]string{"-release", "alice"}, "there is no file "+d.db+" to release from")
	assert.NoFileExists(t, d.db)
}

func TestLocked(t *testing.T) {
	d := newDesk(t)
	d.ok("alice")
	s, err := bolt.Open(t.Context(), d.db, nil)
	require.NoError(t, err)
	defer s.Close()
	d.refused([]string{"bob"}, d.db, "locked by another process")
}

// TestReadsWhatOthersWrote shows that the file contains nothing special to this program: any program
// with the library sees the same pool.
func TestReadsWhatOthersWrote(t *testing.T) {
	d := newDesk(t)
	d.ok("alice")
	s, err := bolt.Open(t.Context(), d.db, nil)
	require.NoError(t, err)
	p, err := pool.Open(t.Context(), s, builtInName, nil)
	require.NoError(t, err)
	a, err := p.Get(t.Context(), pool.Held{Addr: netip.MustParseAddr("2001:db8::2")})
	require.NoError(t, err)
	assert.Equal(t, "alice", a.Owner)
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "single"})
	require.NoError(t, err)
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "a b\tc\n"})
	require.NoError(t, err)
	report, err := p.Verify(t.Context())
	require.NoError(t, err)
	assert.True(t, report.OK(), report)
	require.NoError(t, s.Close())

	output := d.ok("bob", "single")
	assertHolds(t, output, "single", "192.0.2.3")
	assertHolds(t, output, "bob", "192.0.2.5, 2001:db8::3")
	assert.Contains(t, output, `"a b\tc\n"`)
	assertCounts(t, output, "IPv4", "256 4 249 3")
}

func TestInterrupted(t *testing.T) {
	d := newDesk(t)
	d.ok("alice")
	before := d.content()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	status := run(ctx, []string{"-db", d.db, "bob"}, &stdout, &stderr)
	assertRefused(t, status, stdout.String(), stderr.String(), []string{"context canceled"})
	assert.Equal(t, before, d.content())
}

func TestUsage(t *testing.T) {
	for _, help := range []string{"-h", "-help", "--help"} {
		status, stdout, stderr := try(help)
		assert.Zero(t, status)
		assert.Empty(t, stderr)
		for _, word := range []string{"Usage: quickstart", "-db FILE", "-pool POOL.yaml", "-release", "OWNER", "ipalloc.db"} {
			assert.Contains(t, stdout, word)
		}
	}
}

func TestBrokenPipe(t *testing.T) {
	d := newDesk(t)
	var stderr bytes.Buffer
	status := run(t.Context(), []string{"-db", d.db, "alice"}, brokenWriter{}, &stderr)
	assertRefused(t, status, "", stderr.String(), []string{"the pipe is broken"})
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, fmt.Errorf("the pipe is broken") }

// TestProcess runs the program as people do, in the folder where its file is to be.
func TestProcess(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	folder := t.TempDir()
	program := filepath.Join(t.TempDir(), "quickstart.exe")
	build, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput()
	require.NoError(t, err, string(build))
	start := func(args ...string) (stdout, stderr string, err error) {
		var out, errs bytes.Buffer
		command := exec.CommandContext(t.Context(), program, args...)
		command.Dir, command.Stdout, command.Stderr = folder, &out, &errs
		err = command.Run()
		return out.String(), errs.String(), err
	}

	first, stderr, err := start("alice", "bob")
	require.NoError(t, err, stderr)
	assertHolds(t, first, "bob", "192.0.2.3, 2001:db8::3")
	assert.FileExists(t, filepath.Join(folder, "ipalloc.db"))
	second, stderr, err := start("bob", "alice")
	require.NoError(t, err, stderr)
	assert.Equal(t, first, second)

	stdout, stderr, err := start("-release", "zed")
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	assertRefused(t, exit.ExitCode(), stdout, stderr, []string{`release for "zed": not found`})
}

// A pool file that is named, but empty, does not mean the built-in pool.
func TestEmptyPoolFlag(t *testing.T) {
	_, err := parseCommand([]string{"-pool", "", "alice"})
	require.EqualError(t, err, "-pool is empty, want the name of a file")
}
