package pool_test

import (
	"context"
	"encoding/csv"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/ipalloc/ipalloc/pool"
)

// The reservations of a DHCP server, read from a file: each client gets the address that is kept for it, whenever it
// comes, and nobody else does.
func ExamplePool_Reserve() {
	ctx := context.Background()
	p := must(pool.New(must(pool.ParseSpec("192.0.2.10-192.0.2.12")), nil))
	file := strings.NewReader("00:00:5e:00:53:01,192.0.2.10,printer\n00:00:5e:00:53:02,192.0.2.11,camera\n")

	var steps []pool.Step
	for _, row := range must(csv.NewReader(file).ReadAll()) {
		steps = append(steps, pool.Reserve(pool.Claim{
			Owner:    row[0],
			Requests: []pool.Request{pool.ExactAddr(netip.MustParseAddr(row[1]))},
			Labels:   map[string]string{"name": row[2]},
		}))
	}
	must(p.All(ctx, steps...)) // or Each, if those that are taken are to be left out

	for _, client := range []string{"00:00:5e:00:53:99", "00:00:5e:00:53:01"} {
		a := must(p.Allocate(ctx, pool.Claim{Owner: client, TTL: time.Hour}))
		fmt.Printf("%s %v %q\n", client, a.Addrs(), a.Labels["name"])
	}
	must(p.Release(ctx, pool.Held{Owner: "00:00:5e:00:53:01"})) // its address stays reserved
	info := must(p.Info(ctx))
	fmt.Println("reservations:", info.Reservations, "kept addresses:", info.StatsOf(pool.IPv4).Kept)
	// Output:
	// 00:00:5e:00:53:99 [192.0.2.12] ""
	// 00:00:5e:00:53:01 [192.0.2.10] "printer"
	// reservations: 2 kept addresses: 2
}
