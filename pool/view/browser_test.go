package view_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	_ "image/png"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/unmet"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/pool/view"
	"github.com/ipalloc/ipalloc/store"
)

// browser returns the path of Chromium. Where there is none the test is skipped, but in CI it fails.
func browser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	unmet.Skip(t, errors.New("there is no Chromium here: Debian's package chromium has it"))
	return ""
}

// visit runs the browser once, with a profile of its own and no network but the page's, and returns what it prints.
func visit(t *testing.T, target string, flags ...string) (output, log string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	profile, err := os.MkdirTemp("", "view-browser")
	require.NoError(t, err)
	defer os.RemoveAll(profile)
	arguments := append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
		"--enable-logging=stderr", "--user-data-dir=" + profile,
	}, flags...)
	command := exec.CommandContext(ctx, browser(t), append(arguments, target)...)
	var out, errs bytes.Buffer
	command.Stdout, command.Stderr = &out, &errs
	require.NoError(t, command.Run(), "%s", &errs)
	return out.String(), errs.String()
}

// A browser shows the text of the pages, its policy lets the styles through and is not violated, and
// the map has its colours.
func TestInBrowser(t *testing.T) {
	browser(t)
	s := store.NewMemory()
	busy24(t, s, "pods")
	holes16(t, s, "vms")
	sparse64(t, s, "v6")
	hostilePool(t, s)
	server := httptest.NewServer(mounted(view.Store(s, nil), &view.HandlerOptions{Label: "team", Clock: clock}))
	defer server.Close()

	for _, test := range []struct {
		target string
		want   []string
	}{
		{"", []string{
			`<a href="pool/pods"><bdi>pods</bdi></a>`, ">63,163<", "&lt;script&gt;document.title=1&lt;/script&gt;",
		}},
		{"pool/pods", []string{
			"<title>Pool pods</title>", `<title id="ipalloc-title">Pool pods</title>`,
			"<title>192.0.2.2 taken: pod-0</title>", "band static (exclusive)", ">web 56<",
		}},
		{"pool/" + view.SegmentOf(`<script>document.title=1</script>`),
			[]string{"&lt;script&gt;document.title=1&lt;/script&gt;"}},
		{"lookup?addr=2001:db8:1:2::53", []string{"<bdi>host-0</bdi>", "<td class=\"a\">2001:db8:1:2::53</td>"}},
	} {
		dom, log := visit(t, server.URL+root+test.target, "--dump-dom")
		for _, want := range test.want {
			shown := strings.Contains(dom, want)
			require.True(t, shown, "%s: %s is not in what the browser shows", test.target, want)
		}
		require.NotContains(t, log, "Content Security Policy")
		require.NotContains(t, dom, "<title>1</title>")
	}

	folder := t.TempDir()
	if keep := os.Getenv("VIEW_SCREENSHOTS"); keep != "" {
		folder = keep
	}
	for _, shot := range []struct {
		name, target, size string
		colours            int
		dark               bool
	}{
		{"index", "", "1000,600", 5, false},
		{"pods", "pool/pods", "1000,1500", 9, false},
		{"pods-narrow", "pool/pods", "500,1500", 9, false},
		{"pods-dark", "pool/pods", "500,1500", 9, true},
		{"vms", "pool/vms", "1000,1200", 7, false},
		{"v6", "pool/v6", "1000,1500", 5, false},
		{"hostile", "pool/" + view.SegmentOf(`<script>document.title=1</script>`), "1000,900", 5, false},
	} {
		path := filepath.Join(folder, shot.name+".png")
		flags := []string{"--window-size=" + shot.size, "--screenshot=" + path}
		if shot.dark {
			flags = append(flags, "--blink-settings=preferredColorScheme=0")
		}
		visit(t, server.URL+root+shot.target, flags...)
		bright, colours := look(t, path)
		require.GreaterOrEqual(t, colours, shot.colours, "%s: large areas of different colours", shot.name)
		require.Equal(t, !shot.dark, bright, "%s: a bright background", shot.name)
	}
}

// hostilePool is a pool whose names would be scripts, if they were not escaped.
func hostilePool(t *testing.T, s store.Store) {
	const name = `<script>document.title=1</script>`
	p, err := pool.Create(t.Context(), s, name, must(pool.ParseSpec("10.66.0.0/28")), nil)
	require.NoError(t, err)
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: name, Labels: map[string]string{"team": name}})
	require.NoError(t, err)
}

// look opens a screenshot: is its background bright, and how many colours cover at least 60 of its pixels?
func look(t *testing.T, path string) (bright bool, colours int) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	picture, _, err := image.Decode(f)
	require.NoError(t, err)
	count := map[string]int{}
	size := picture.Bounds()
	for y := size.Min.Y; y < size.Max.Y; y++ {
		for x := size.Min.X; x < size.Max.X; x++ {
			r, g, b, _ := picture.At(x, y).RGBA()
			count[fmt.Sprint(r>>8, g>>8, b>>8)]++
		}
	}
	for _, n := range count {
		if n >= 60 {
			colours++
		}
	}
	r, _, _, _ := picture.At(size.Min.X, size.Min.Y).RGBA()
	return r > 0x8000, colours
}
