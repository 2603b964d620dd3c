package adopt_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/adopt"
	"github.com/ipalloc/ipalloc/adopt/csv"
	"github.com/ipalloc/ipalloc/adopt/kea"
	"github.com/ipalloc/ipalloc/adopt/kubernetes"
	"github.com/ipalloc/ipalloc/store"
)

// lines writes a file of a header, n lines and a footer, and opens it.
func lines(t *testing.T, header string, n int, line func(i int) string, footer string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "source"))
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	out := bufio.NewWriter(f)
	fmt.Fprint(out, header)
	for i := range n {
		fmt.Fprint(out, line(i))
	}
	fmt.Fprint(out, footer)
	require.NoError(t, out.Flush())
	return f
}

// live is the bytes in use on the heap, without garbage.
func live() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// A million lines go through a reader and Into, and half a million through another one, in less memory than the text of
// each file has bytes.
func TestMillionsOfLinesStream(t *testing.T) {
	if testing.Short() {
		t.Skip("reads files of a million lines")
	}
	const n, most = 1_000_000, 16 << 20
	address := func(i int) string { return fmt.Sprintf("10.%d.%d.%d", i>>16&255, i>>8&255, i&255) }
	w := newWorld(t, store.NewMemory(), map[string]string{"elsewhere": "192.0.2.0/24"}, "elsewhere")
	for name, test := range map[string]struct {
		read   func(io.ReadSeeker) adopt.Entries
		header string
		n      int
		line   func(i int) string
		footer string
		want   int
	}{
		"csv": {
			read: csv.Read, header: "owner,address,label.rack\n", n: n, want: n,
			line: func(i int) string { return fmt.Sprintf("host-%d,%s,rack-%d\n", i, address(i), i%100) },
		},
		// Of an address that is renewed, the last of a hundred lines counts.
		"kea": {
			read: kea.Read, header: "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,hostname,state\n", n: n / 2,
			want: n / 100,
			line: func(i int) string {
				return address(i%(n/100)) + fmt.Sprintf(",02:00:00:00:%02x:%02x,,3600,1795385831,1,h,0\n", i>>8&255, i&255)
			},
		},
		"kubernetes": {
			read: kubernetes.Read, header: `{"apiVersion": "v1", "items": [{"kind": "Pod"}`, n: n / 40, want: n / 40,
			line: func(i int) string {
				return fmt.Sprintf(`,{"kind": "Service", "metadata": {"namespace": "n", "name": "s-%d", "annotations": {"a":
					"a text that is not read but makes the object as large as objects are"}}, "spec": {"clusterIPs": [%q]}}`,
					i, address(i))
			},
			footer: `], "kind": "List"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := lines(t, test.header, test.n, test.line, test.footer)
			before, n := live(), 0
			sample := func() {
				if n++; n%(test.want/4) == 0 {
					now := live()
					require.Less(t, now, before+most, "after %d", n)
				}
			}
			if name == "csv" {
				for r, err := range adopt.Into(t.Context(), w.pools, test.read(file), &adopt.Options{Clock: clock}) {
					require.NoError(t, err)
					require.ErrorIs(t, r.Err, adopt.ErrOutside)
					sample()
				}
			} else {
				for _, err := range test.read(file) {
					require.NoError(t, err)
					sample()
				}
			}
			require.Equal(t, test.want, n)
		})
	}
}
