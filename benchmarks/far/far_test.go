package main_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	main "github.com/ipalloc/ipalloc/benchmarks/far"

	"github.com/ipalloc/ipalloc/benchmarks/durable"
	"github.com/ipalloc/ipalloc/internal/unmet"
)

func TestMain(m *testing.M) {
	if durable.RunServer() || main.RunTask() {
		return
	}
	os.Exit(m.Run())
}

// page is the page whose tables the command makes.
const page = "../../docs/how-far-it-goes.md"

// run returns the tables of a command, by their names, as rows of cells. The command checks what it measures. It must
// leave no file.
func run(t *testing.T, args ...string) map[string][][]string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755)) // for servers, which run as users of their own
	t.Setenv("TMPDIR", dir)
	var out, progress bytes.Buffer
	err := main.Command(t.Context(), args, &out, &progress)
	if err != nil && strings.Contains(err.Error(), durable.ErrNoServer.Error()) {
		unmet.Skip(t, err)
	}
	require.NoError(t, err, progress.String())
	left, err := os.ReadDir(os.TempDir())
	require.NoError(t, err)
	require.Empty(t, left)
	return tablesOf(out.String())
}

var tablePattern = regexp.MustCompile(`(?s)<!-- far: ([a-z ]+) -->\n(.*?)<!-- end -->\n`)

func tablesOf(text string) map[string][][]string {
	tables := map[string][][]string{}
	for _, match := range tablePattern.FindAllStringSubmatch(text, -1) {
		for line := range strings.Lines(match[2]) {
			cells := strings.Split(strings.TrimSuffix(strings.TrimPrefix(line, "| "), " |\n"), " | ")
			tables[match[1]] = append(tables[match[1]], cells)
		}
	}
	return tables
}

// TestOwners fills one pool on each store, and looks it up from fresh processes.
func TestOwners(t *testing.T) {
	for _, name := range []string{"memory", "bolt", "postgres", "etcd"} {
		t.Run(name, func(t *testing.T) {
			rows := run(t, "-run", "owners", "-store", name, "-owners", "2000")["owners "+name]
			require.NotEmpty(t, rows)
			byTitle := map[string][]string{}
			for _, row := range rows {
				require.Len(t, row, 5)
				byTitle[row[0]] = row
			}
			for _, title := range []string{
				"… opens the pool", "allocate, p50", "`Verify`", "the head", "records of a commit: mean · largest",
			} {
				require.Contains(t, byTitle, title)
				require.NotContains(t, byTitle[title], "–")
			}
			if name != "memory" {
				require.NotContains(t, byTitle["the store"], "–")
			}
		})
	}
}

// TestPools makes and deletes pools on each store, apart and in one network.
func TestPools(t *testing.T) {
	rows := run(t, "-run", "pools", "-pools", "20")["pools"]
	require.Len(t, rows, 2+2*4)
	require.Equal(t, []string{"etcd, in one network", "20"}, rows[9][:2])
	require.NotEqual(t, "–", rows[9][7])
}

// TestSimulated has each writer take a block of its own. Time is simulated, so that the figures are always the same.
func TestSimulated(t *testing.T) {
	rows := run(t, "-run", "simulated", "-writers", "20")["simulated"]
	require.Len(t, rows, 2+5)
	require.Equal(t, rows, run(t, "-run", "simulated", "-writers", "20")["simulated"])
	require.Equal(t, "2 · 0", rows[2][5], "a writer alone takes a block in two commits, with its pool")
	require.Equal(t, "40 · 0", rows[6][5], "writers that come one after the other do not meet")
	for _, row := range rows[2:] {
		require.True(t, strings.HasPrefix(row[7], "1.1"), "a claim is a round trip of 1 ms and a commit of 0.1 ms: %v", row)
	}
}

// TestWriters has writers in processes, which share a server of etcd.
func TestWriters(t *testing.T) {
	rows := run(t, "-run", "writers", "-processes", "2x10,1x1", "-for", "300ms", "-every", "100ms")["writers"]
	require.Len(t, rows, 2+2+2*3)
	for _, row := range rows[4:] {
		require.NotEqual(t, "0/s", row[2], "%v", row)
		require.NotContains(t, []string{"0/s", "–"}, row[5], "%v", row)
	}
}

// TestPage puts the tables of a run into the page, which has a place for each.
func TestPage(t *testing.T) {
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	copied := filepath.Join(t.TempDir(), "page.md")
	require.NoError(t, os.WriteFile(copied, text, 0o600))
	tables := run(t, "-run", "owners,pools", "-store", "memory", "-owners", "2000", "-pools", "10", "-o", copied)
	replaced, err := os.ReadFile(copied)
	require.NoError(t, err)
	inPage := tablesOf(string(replaced))
	for name, rows := range tables {
		require.Equal(t, rows, inPage[name])
	}
	for _, name := range []string{
		"owners memory", "owners bolt", "owners postgres", "owners etcd", "pools", "simulated", "writers",
	} {
		require.Equal(t, tablesOf(string(text))[name][0][0], inPage[name][0][0], name)
	}
}

// TestReplace changes nothing but the table.
func TestReplace(t *testing.T) {
	const text = "a\n<!-- far: x -->\n| old |\n<!-- end -->\nb\n<!-- far: y -->\n| kept |\n<!-- end -->\n"
	got, err := main.Replace(text, "x", []string{"h", "i"}, []string{"1", "2"})
	require.NoError(t, err)
	require.Equal(t, strings.Replace(text, "| old |\n", "| h | i |\n| --- | --- |\n| 1 | 2 |\n", 1), got)
	_, err = main.Replace(text, "z", []string{"h"})
	require.ErrorContains(t, err, `no comment "<!-- far: z -->"`)
	_, err = main.Replace("<!-- far: x -->\n", "x", []string{"h"})
	require.ErrorContains(t, err, "no end")
}

// TestFlags refuses what cannot be measured.
func TestFlags(t *testing.T) {
	for args, want := range map[string]string{
		"-run blocks":          `"blocks" is none of owners, pools, simulated, writers`,
		"-store sqlite":        `"sqlite" is none of memory, bolt`,
		"-owners 999":          "-owners 999 is not from 1000 to 16000000",
		"-owners 16000001":     "-owners 16000001 is not",
		"-pools 0":             "-pools 0 is not",
		"-writers 0":           "-writers 0 is not",
		"-processes 4":         `"4" is not a number of processes`,
		"-processes 1x1,0x4":   `"0x4" is not`,
		"-processes 1000x1000": "more than 100000 writers",
		"-for 0s":              "lengths of time above 0",
		"-commit -1s":          "lengths of time above 0",
	} {
		err := main.Command(t.Context(), strings.Fields(args), io.Discard, io.Discard)
		require.ErrorContains(t, err, want, args)
	}
}
