package view_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/pool/view"
	"github.com/ipalloc/ipalloc/store"
)

// examplePool is a small pool with a gateway, an exclusion and a cooldown.
func examplePool() *pool.Pool {
	ctx := context.Background()
	p := must(pool.New(pool.Spec{
		Ranges:   must(cidr.ParseRanges("192.0.2.0/26")),
		Subnets:  []pool.Subnet{{Prefix: netip.MustParsePrefix("192.0.2.0/26"), Gateway: netip.MustParseAddr("192.0.2.1")}},
		Exclude:  must(cidr.ParseRanges("192.0.2.32/29")),
		Cooldown: time.Minute,
	}, nil))
	for i := range 20 {
		team := []string{"web", "db"}[i/12]
		must(p.Allocate(ctx, pool.Claim{Owner: fmt.Sprint("pod-", i), Labels: map[string]string{"team": team}}))
	}
	must(p.Release(ctx, pool.Held{Owner: "pod-5"}))
	return p
}

// A map for a terminal. Each aligned block of addresses is a square or a rectangle.
func ExampleText() {
	s := must(examplePool().Snapshot(context.Background()))
	fmt.Println(view.Text(os.Stdout, s, &view.Options{Label: "team"}))
	// Output:
	// Pool in memory
	//
	// IPv4: 19 taken, 33 free, 1 cooling, 1 gateway, 2 reserved, 8 excluded
	//
	// 192.0.2.0/26
	// --BBBBBB······--
	// @@BB~~BB········
	// DDBBBBBB········
	// DDBBBBBB········
	// DDDD····xxxx····
	// DDDD····xxxx····
	// DD······xxxx····
	// DD······xxxx····
	//
	// ··  free
	// ~~  cooling
	// @@  gateway
	// --  reserved
	// xx  excluded
	// taken, by team:
	// DD  db: 8
	// BB  web: 11
	// <nil>
}

// The same as a picture, which needs nothing else to be shown.
func ExampleSVG() {
	s := must(examplePool().Snapshot(context.Background()))
	var picture strings.Builder
	err := view.SVG(&picture, s, &view.Options{Label: "team"})
	fmt.Println(err, strings.Contains(picture.String(), "<title>192.0.2.2 taken: pod-0</title>"))
	// Output: <nil> true
}

// Pages about the pools of a store and about one in memory, beside those of net/http/pprof.
func ExampleHandler() {
	ctx, db := context.Background(), store.NewMemory()
	p := must(pool.Create(ctx, db, "pods", must(pool.ParseSpec("192.0.2.0/24")), nil))
	must(p.Allocate(ctx, pool.Claim{Owner: "pod-7/eth0"}))

	source := view.Join(view.Store(db, nil), view.Pools(map[string]*pool.Pool{"leases": examplePool()}))
	mux := http.NewServeMux()
	mux.Handle("/debug/ipalloc/", http.StripPrefix("/debug/ipalloc",
		view.Handler(source, &view.HandlerOptions{Label: "team"})))

	for _, target := range []string{"?format=text", "lookup?addr=192.0.2.1&format=text"} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/debug/ipalloc/"+target, nil))
		fmt.Print(w.Body)
	}
	// Output:
	// POOL    FAMILY  TAKEN  FREE  COOLING  KEPT  RESERVED  OUT OF RANGE  TOTAL
	// leases  IPv4    19     33    1        0     11        0             64
	// pods    IPv4    1      253   0        0     2         0             256
	// 192.0.2.1 in pool leases: gateway
	// 192.0.2.1 in pool pods: held by pod-7/eth0, [192.0.2.1/32]
}
