package view_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/pool/view"
	"github.com/ipalloc/ipalloc/store"
)

// hostile are names that mean something where they are shown, if they are not escaped.
var hostile = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='x`, "line\nbreak\r\n\tand tab",
	"\u202Egnp.exe\u2066", "\x1b[31mred\x1b]0;title\a",
	`]]>`, `--><!--`, `{{.}}`, `javascript:alert(1)`, `../../etc/passwd`, `.`, `..`, `a/b?c=d#e%2Ff&g`, `&lt;b&gt;`,
	"日本語 עברית", "\u2028\u0085\uFEFF", `\u202e`, `~2E`, strings.Repeat("ö", 500),
}

// get asks the handler, as it is mounted in a program.
func get(t testing.TB, h http.Handler, target string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func mounted(source view.Source, options *view.HandlerOptions) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/debug/ipalloc/", http.StripPrefix("/debug/ipalloc", view.Handler(source, options)))
	return mux
}

const root = "/debug/ipalloc/"

func labHandler(t testing.TB) http.Handler {
	s := store.NewMemory()
	busy24(t, s, "pods")
	sparse64(t, s, "v6")
	memory := must(pool.New(must(pool.ParseSpec("10.9.0.0/28")), &pool.Options{Clock: clock}))
	must(memory.Allocate(context.Background(), pool.Claim{Owner: "dhcp-1", TTL: time.Hour}))
	return mounted(view.Join(view.Store(s, nil), view.Pools(map[string]*pool.Pool{"leases": memory})),
		&view.HandlerOptions{Label: "team", Clock: clock, Rows: 50})
}

// TestRenumbered shows a pool that is being renumbered: what is held on both sides, found by either address.
func TestRenumbered(t *testing.T) {
	s := store.NewMemory()
	p, err := pool.Create(t.Context(), s, "site", must(pool.ParseSpec("2001:db8:1::/64")), &pool.Options{Clock: clock})
	require.NoError(t, err)
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "web"})
	require.NoError(t, err)
	from, to := netip.MustParsePrefix("2001:db8:1::/64"), netip.MustParsePrefix("2001:db8:2::/64")
	require.NoError(t, p.Renumber(t.Context(), from, to))
	h := mounted(view.Store(s, nil), &view.HandlerOptions{Clock: clock})
	for target, want := range map[string]string{
		"lookup?addr=2001:db8:2::1":             `<span class="dim">beside 2001:db8:2::1</span>`,
		"lookup?addr=2001:db8:2::1&format=text": "held by web, [2001:db8:1::1/128] beside [2001:db8:2::1/128]",
		"lookup?addr=2001:db8:2::1&format=json": `"beside": [`,
		"lookup?addr=2001:db8:2::2&format=text": "no pool has",
		"pool/site":                             "from 2001:db8:1::/64 to 2001:db8:2::/64",
		"pool/site?format=text":                 "2001:db8:1::1 beside 2001:db8:2::1",
	} {
		w := get(t, h, root+target, "Accept", "")
		require.Equal(t, 200, w.Code, target)
		require.Contains(t, w.Body.String(), want, target)
	}
}

func TestHandler(t *testing.T) {
	h := labHandler(t)
	for _, test := range []struct {
		target, accept string
		status         int
		kind           string
		want           []string
	}{
		{"", "", 200, "text/html; charset=utf-8", []string{`href="pool/pods"`, `href="pool/leases"`, "<td>IPv6</td>", "52%"}},
		{"", "application/json", 200, "application/json", []string{`"name": "v6"`, `"free": "18446744073709551611"`}},
		{"?format=text", "application/json", 200, "text/plain; charset=utf-8", []string{"pods    IPv4    105"}},
		{"pool/pods", "text/html,*/*;q=0.8", 200, "text/html; charset=utf-8", []string{
			"<svg", "gateway 192.0.2.1", "static: 192.0.2.192/27, exclusive", "in 10m0s", "Page 1 of 3", "pod-3<",
			`action="../lookup"`,
		}},
		{"pool/pods?page=3", "", 200, "text/html; charset=utf-8", []string{"Page 3 of 3", "dns", `href="?page=2"`}},
		{"pool/pods?format=svg", "", 200, "image/svg+xml", []string{"<svg", "192.0.2.2 taken: pod-0"}},
		{"pool/pods", "text/plain;q=0.4, image/svg+xml;q=0.9", 200, "image/svg+xml", []string{"<svg"}},
		{"pool/pods?format=text", "", 200, "text/plain; charset=utf-8", []string{"taken, by team:", "pod-0", "page 1 of 3"}},
		{"pool/pods?format=json", "", 200, "application/json",
			[]string{`"owner": "pod-0"`, `"exclude": [`, `"pages": 3`, `"state": "cooling"`}},
		{"pool/leases", "", 200, "text/html; charset=utf-8", []string{"Pool leases", "dhcp-1", "in 1h0m0s"}},
		{"lookup", "", 200, "text/html; charset=utf-8", []string{"Enter an address"}},
		{"lookup?addr=192.0.2.2", "", 200, "text/html; charset=utf-8",
			[]string{"pod-0", `href="pool/pods"`, `value="192.0.2.2"`}},
		{"lookup?addr=10.9.0.1&format=json", "", 200, "application/json", []string{`"owner": "dhcp-1"`, `"pool": "leases"`}},
		{"lookup?addr=192.0.2.1&format=text", "", 200, "text/plain; charset=utf-8",
			[]string{"192.0.2.1 in pool pods: gateway"}},
		{"lookup?addr=192.0.2.230&format=text", "", 200, "text/plain; charset=utf-8", []string{"free, cooling or kept"}},
		{"lookup?addr=192.0.2.100&format=text", "", 200, "text/plain; charset=utf-8", []string{"held by pod-"}},
		{"lookup?addr=8.8.8.8", "", 200, "text/html; charset=utf-8", []string{"No pool has <strong>8.8.8.8</strong>"}},
		{"lookup?addr=8.8.8.8&format=json", "", 200, "application/json", []string{`"pools": []`}},
		{"lookup?addr=%3Cb%3E", "", 400, "text/plain; charset=utf-8", []string{`"<b>" is no address`}},
		{"lookup?addr=" + strings.Repeat("1", 1000), "", 400, "text/plain; charset=utf-8",
			[]string{"1000 bytes long, the most is 64"}},
		{"lookup?format=json", "", 400, "text/plain; charset=utf-8", []string{"is no address"}},
		{"pool/nobody", "", 404, "text/plain; charset=utf-8", []string{"no such pool"}},
		{"pool/", "", 404, "text/plain; charset=utf-8", []string{"no such page"}},
		{"pool/pods/", "", 404, "text/plain; charset=utf-8", []string{"no such page"}},
		{"pool/p%6Fds", "", 200, "text/html; charset=utf-8", []string{"Pool pods"}},
		{"nothing", "", 404, "text/plain; charset=utf-8", []string{"no such page"}},
		{"?format=pdf", "", 400, "text/plain; charset=utf-8", []string{`"pdf" is none of [html text json]`}},
		{"pool/pods?page=9", "", 404, "text/plain; charset=utf-8", []string{"no page 9, the last is 3"}},
		{"pool/pods?page=-1", "", 400, "text/plain; charset=utf-8", []string{"not a number from 1 on"}},
		{"?page=99999999999999999999", "", 400, "text/plain; charset=utf-8", []string{"not a number from 1 on"}},
	} {
		t.Run(test.target+" "+test.accept, func(t *testing.T) {
			w := get(t, h, root+test.target, "Accept", test.accept)
			require.Equal(t, test.status, w.Code, w.Body.String())
			require.Equal(t, test.kind, w.Header().Get("Content-Type"))
			for _, want := range test.want {
				require.Contains(t, w.Body.String(), want)
			}
			if test.kind == "application/json" {
				require.True(t, json.Valid(w.Body.Bytes()))
			}
			checkHeaders(t, w)
		})
	}
}

// checkHeaders checks what every answer has.
func checkHeaders(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	policy := w.Header().Get("Content-Security-Policy")
	require.Regexp(t,
		`^default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; style-src( 'sha256-[^']+'){2}$`,
		policy)
	require.NotContains(t, policy, "unsafe")
	require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	require.Equal(t, "no-referrer", w.Header().Get("Referrer-Policy"))
	for _, style := range regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindAllStringSubmatch(w.Body.String(), -1) {
		hash := sha256.Sum256([]byte(style[1]))
		require.Contains(t, policy, base64.StdEncoding.EncodeToString(hash[:]), "each style is allowed")
	}
	if strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
		for _, tag := range regexp.MustCompile(`<[^>]*>`).FindAllString(w.Body.String(), -1) {
			require.NotRegexp(t, `(?i)^<(script|img|iframe|object)|\s(on[a-z]+|style|src)\s*=|="\s*(javascript|data):`, tag)
		}
	}
}

func TestOnlyGetAndHead(t *testing.T) {
	h := labHandler(t)
	for _, method := range []string{
		http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions, "BREW",
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, root+"pool/pods", nil))
		require.Equal(t, http.StatusMethodNotAllowed, w.Code, method)
		require.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
		checkHeaders(t, w)
	}
	server := httptest.NewServer(h)
	defer server.Close()
	response, err := http.Head(server.URL + root)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Empty(t, must(io.ReadAll(response.Body)))
}

// Hostile names of pools, owners, labels, bands, networks and scopes: escaped in every format, and
// found again under their paths.
func TestHostileNames(t *testing.T) {
	ctx, s := t.Context(), store.NewMemory()
	for i, name := range hostile {
		spec := pool.Spec{
			Ranges:  must(cidr.ParseRanges(fmt.Sprintf("10.0.%d.0/28", i))),
			Bands:   []pool.Band{{Name: name, Ranges: must(cidr.ParseRanges(fmt.Sprintf("10.0.%d.8/30", i)))}},
			Network: name, Scope: name, Labels: map[string]string{name: name},
		}
		p, err := pool.Create(ctx, s, name, spec, nil)
		require.NoError(t, err)
		_, err = p.Allocate(ctx, pool.Claim{Owner: name, Scope: name, Labels: map[string]string{name: name, "team": name}})
		require.NoError(t, err)
	}
	h := mounted(view.Store(s, nil), &view.HandlerOptions{Label: "team"})
	check := func(target string) string {
		w := get(t, h, target)
		require.Equal(t, 200, w.Code, "%s: %s", target, w.Body)
		body := w.Body.String()
		for _, r := range body {
			require.True(t, unicode.IsPrint(r) || r == '\n' || r == '\t' ||
				w.Header().Get("Content-Type") == "application/json", "%U in %s", r, target)
		}
		if !strings.Contains(target, "format=") {
			checkHeaders(t, w)
		}
		return body
	}
	check(root)
	check(root + "?format=text")
	var index struct{ Pools []struct{ Name, Path string } }
	require.NoError(t, json.Unmarshal([]byte(check(root+"?format=json")), &index))
	require.Len(t, index.Pools, len(hostile))
	for _, listed := range index.Pools {
		require.Contains(t, hostile, listed.Name)
		require.Equal(t, "pool/"+url.PathEscape(view.SegmentOf(listed.Name)), listed.Path, "needs no other escape")
		page := root + listed.Path
		require.Contains(t, check(page), "<title>Pool ")
		check(page + "?format=text")
		var own struct {
			Name        string
			Allocations []struct{ Owner string }
		}
		require.NoError(t, json.Unmarshal([]byte(check(page+"?format=json")), &own))
		require.Equal(t, listed.Name, own.Name)
		require.Equal(t, listed.Name, own.Allocations[0].Owner)

		snapshot := must(must(pool.Open(ctx, s, listed.Name, nil)).Snapshot(ctx))
		svgOf(t, snapshot, &view.Options{Label: "team"})
		check(root + "lookup?addr=" + snapshot.Allocations[0].Addrs()[0].String())
	}
}

func TestPrintable(t *testing.T) {
	seen := map[string]string{}
	for _, name := range hostile {
		text := view.Printable(name)
		require.Empty(t, seen[text], "different names stay different")
		seen[text] = name
	}
	require.Equal(t, `say "hi"\n`, view.Printable("say \"hi\"\n"))
}

// All links are relative, so that they work wherever the handler is mounted.
func TestMounts(t *testing.T) {
	s := store.NewMemory()
	busy24(t, s, "a/b")
	h := view.Handler(view.Store(s, nil), nil)
	for _, prefix := range []string{"", "/x", "/debug/ipalloc"} {
		server := httptest.NewServer(http.StripPrefix(prefix, h))
		base := must(url.Parse(server.URL + prefix + "/"))
		fetch := func(u *url.URL) string {
			response, err := http.Get(u.String())
			require.NoError(t, err)
			defer response.Body.Close()
			require.Equal(t, 200, response.StatusCode, u)
			return string(must(io.ReadAll(response.Body)))
		}
		seen := map[string]bool{}
		queue := []*url.URL{base}
		for len(queue) > 0 {
			page := queue[0]
			queue = queue[1:]
			if seen[page.String()] {
				continue
			}
			seen[page.String()] = true
			for _, link := range regexp.MustCompile(`(?:href|action)="([^"]*)"`).FindAllStringSubmatch(fetch(page), -1) {
				next, err := page.Parse(strings.ReplaceAll(link[1], "&amp;", "&"))
				require.NoError(t, err)
				require.True(t, strings.HasPrefix(next.Path, base.Path), "%s leaves the handler", next)
				queue = append(queue, next)
			}
		}
		require.Greater(t, len(seen), 6)
		server.Close()
	}
	w := get(t, http.StripPrefix("/debug/ipalloc", h), "/debug/ipalloc")
	require.Equal(t, http.StatusMovedPermanently, w.Code)
	require.Equal(t, "./ipalloc/", w.Header().Get("Location"))
}

// brokenSource fails as a store does.
type brokenSource struct{ err error }

func (s brokenSource) Infos(context.Context) iter.Seq2[pool.Info, error] {
	return func(yield func(pool.Info, error) bool) { yield(pool.Info{}, s.err) }
}

func (s brokenSource) Pool(context.Context, string) (*pool.Pool, error) { return nil, s.err }

// The client is told what it can do about an error; what the store says goes to the log.
func TestErrorsTellNoInternals(t *testing.T) {
	for _, test := range []struct {
		err    error
		status int
	}{
		{errors.New("dial tcp 10.1.2.3:5432: password of user ipam refused"), 500},
		{fmt.Errorf("10.1.2.3: %w", pool.ErrBusy), 503},
		{fmt.Errorf("10.1.2.3: %w", context.DeadlineExceeded), 503},
		{fmt.Errorf("10.1.2.3: %w", pool.ErrUnfinished), 503},
	} {
		var log bytes.Buffer
		h := mounted(brokenSource{test.err}, &view.HandlerOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		for _, target := range []string{"", "pool/pods", "lookup?addr=192.0.2.1"} {
			log.Reset()
			w := get(t, h, root+target)
			require.Equal(t, test.status, w.Code, w.Body)
			require.NotContains(t, w.Body.String(), "10.1.2.3")
			require.Contains(t, log.String(), "10.1.2.3")
		}
	}
}

// stuckSource answers when the request's time is over.
type stuckSource struct{ brokenSource }

func (stuckSource) Pool(ctx context.Context, _ string) (*pool.Pool, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestTimeout(t *testing.T) {
	h := mounted(stuckSource{}, &view.HandlerOptions{Timeout: time.Millisecond})
	var wg sync.WaitGroup
	for range 8 { // more than may read at once
		wg.Go(func() {
			w := get(t, h, root+"pool/pods")
			if w.Code != http.StatusServiceUnavailable {
				t.Error(w.Code, w.Body)
			}
		})
	}
	wg.Wait()
}

// Of a pool with more allocations than the limit the counts are shown, and nothing more is read.
func TestLargePools(t *testing.T) {
	s := store.NewMemory()
	busy24(t, s, "pods")
	h := mounted(view.Store(s, nil), &view.HandlerOptions{MaxRecords: 20})
	w := get(t, h, root+"pool/pods")
	require.Equal(t, 200, w.Code)
	require.Contains(t, w.Body.String(), "too many allocations")
	require.NotContains(t, w.Body.String(), "pod-1")
	require.NotContains(t, w.Body.String(), "<svg")
	require.Equal(t, http.StatusServiceUnavailable, get(t, h, root+"pool/pods?format=svg").Code)
	require.Contains(t, get(t, h, root+"pool/pods?format=text").Body.String(), "too many allocations")
	require.Contains(t, get(t, h, root+"pool/pods?format=json").Body.String(), `"tooLarge": true`)

	// Few allocations of many addresses are few.
	p := must(pool.Create(t.Context(), s, "nodes", must(pool.ParseSpec("2001:db8::/56")), nil))
	must(p.Allocate(t.Context(), pool.Claim{Owner: "node-1", Requests: []pool.Request{{Bits: 64}}}))
	require.Contains(t, get(t, h, root+"pool/nodes").Body.String(), "node-1")
}

// Requests beside claims and releases, under the race detector.
func TestHandlerConcurrent(t *testing.T) {
	s := store.NewMemory()
	p := must(pool.Create(t.Context(), s, "pods", must(pool.ParseSpec("192.0.2.0/24")), nil))
	h := mounted(view.Join(view.Store(s, nil), view.Pools(map[string]*pool.Pool{"same": p})), nil)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 25 {
				owner := fmt.Sprint(i, "-", j)
				if _, err := p.Allocate(t.Context(), pool.Claim{Owner: owner}); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 5 {
				for _, target := range []string{"", "pool/pods", "pool/same?format=json", "lookup?addr=192.0.2.5"} {
					if w := get(t, h, root+target); w.Code != 200 && w.Code != 503 {
						t.Error(target, w.Code, w.Body)
					}
				}
			}
		})
	}
	wg.Wait()
	require.Contains(t, get(t, h, root).Body.String(), ">100<")
}

// Any path and query: an answer that is one of those that there are, and never more than the pools' own.
func FuzzHandlerPath(f *testing.F) {
	for _, name := range hostile {
		f.Add("pool/"+view.SegmentOf(name), "format=text")
		f.Add("pool/"+url.PathEscape(name), "page=2")
	}
	f.Add("lookup", "addr=192.0.2.2")
	f.Add("", "format=json&page=1")
	s := store.NewMemory()
	busy24(f, s, "pods")
	h := view.Handler(view.Store(s, nil), nil)
	f.Fuzz(func(t *testing.T, path, query string) {
		r := &http.Request{
			Method: http.MethodGet, URL: &url.URL{Path: "/" + path, RawQuery: query},
			RequestURI: "/" + path, Header: http.Header{},
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		switch w.Code {
		case 200:
			require.Contains(t, []string{"", "lookup", "pool/pods"}, path)
		case 400, 404:
			require.Equal(t, "text/plain; charset=utf-8", w.Header().Get("Content-Type"))
			require.Less(t, w.Body.Len(), 1000)
		default:
			require.Fail(t, "unexpected status", "%d: %s", w.Code, w.Body)
		}
		if name, ok := view.NameOf(path); ok {
			require.Equal(t, path, view.SegmentOf(name), "a name has one path")
		}
		back, ok := view.NameOf(view.SegmentOf(path))
		require.True(t, ok)
		require.Equal(t, path, back, "escaped reversibly")
		require.Regexp(t, `^[A-Za-z0-9_~-]+$`, view.SegmentOf(path))
	})
}

// A source of chosen pools, and which wins if two have a name.
func TestJoin(t *testing.T) {
	one := must(pool.New(must(pool.ParseSpec("10.0.0.0/28")), nil))
	two := must(pool.New(must(pool.ParseSpec("10.0.1.0/28")), nil))
	source := view.Join(view.Pools(map[string]*pool.Pool{"a": one}), view.Pools(map[string]*pool.Pool{"a": two, "b": two}))
	var names []string
	for info, err := range source.Infos(t.Context()) {
		require.NoError(t, err)
		names = append(names, info.Name+" "+info.Spec.Ranges[0].From().String())
	}
	require.Equal(t, []string{"a 10.0.0.0", "b 10.0.1.0"}, names)
	p, err := source.Pool(t.Context(), "a")
	require.NoError(t, err)
	require.Same(t, one, p)
	_, err = source.Pool(t.Context(), "c")
	require.ErrorIs(t, err, pool.ErrNoPool)
	_, err = one.Get(t.Context(), pool.Held{Addr: netip.MustParseAddr("10.0.0.1")})
	require.ErrorIs(t, err, pool.ErrNotFound)
}

// All owners that share an address are found at it.
func TestLookupOfWhatIsShared(t *testing.T) {
	p := must(pool.New(must(pool.ParseSpec("10.9.0.0/28")), &pool.Options{Clock: clock}))
	for _, owner := range []string{"shop/http", "shop/https"} {
		must(p.Allocate(t.Context(), pool.Claim{Owner: owner, Share: "web"}))
	}
	h := mounted(view.Pools(map[string]*pool.Pool{"services": p}), nil)
	w := get(t, h, root+"lookup?addr=10.9.0.1&format=text")
	require.Equal(t, http.StatusOK, w.Code)
	require.Contains(t, w.Body.String(), "held by shop/http,")
	require.Contains(t, w.Body.String(), "held by shop/https,")
	require.Contains(t, get(t, h, root+"pool/services?format=text").Body.String(), "shop/https")
}
