package pool_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// A claim waits until another process releases an address.
func ExamplePool_AllocateWait() {
	ctx := context.Background()
	s := store.NewMemory()
	p := must(pool.Create(ctx, s, "nodes", pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.1"))}, nil))
	must(p.Allocate(ctx, pool.Claim{Owner: "node-1"}))

	go func() { must(must(pool.Open(ctx, s, "nodes", nil)).Release(ctx, pool.Held{Owner: "node-1"})) }()
	fmt.Println(must(p.AllocateWait(ctx, pool.Claim{Owner: "node-2"})).Addrs()[0])
	// Output: 10.0.0.1
}

// The first Change lists all that is free; each later one lists what changed since the one before.
func ExamplePool_Watch() {
	ctx := context.Background()
	p := must(pool.New(pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.1-10.0.0.9"))}, nil))
	n := 0
	for change, err := range p.Watch(ctx, 0) {
		if err != nil {
			panic(err)
		}
		fmt.Println("freed", change.Freed, "taken", change.Taken)
		switch n++; n {
		case 1:
			must(p.Allocate(ctx, pool.Claim{Owner: "a"}))
		case 2:
			must(p.Release(ctx, pool.Held{Owner: "a"}))
		default:
			return
		}
	}
	// Output:
	// freed [10.0.0.1-10.0.0.9] taken []
	// freed [] taken [10.0.0.1-10.0.0.1]
	// freed [10.0.0.1-10.0.0.1] taken []
}

// A pool moves to another store, as JSON.
func ExampleImport() {
	ctx := context.Background()
	from, to := store.NewMemory(), store.NewMemory() // or a file, and a database
	p := must(pool.Create(ctx, from, "nodes", pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.1-10.0.0.9"))}, nil))
	must(p.Allocate(ctx, pool.Claim{Owner: "node-1"}))

	var text bytes.Buffer
	if err := p.Export(ctx, &text); err != nil {
		panic(err)
	}
	var snapshot pool.Snapshot
	if err := json.Unmarshal(text.Bytes(), &snapshot); err != nil {
		panic(err)
	}
	moved := must(pool.Import(ctx, to, "nodes", snapshot, nil))
	fmt.Println(must(moved.Get(ctx, pool.Held{Owner: "node-1"})).Addrs()[0])
	fmt.Println(must(moved.Allocate(ctx, pool.Claim{Owner: "node-2"})).Addrs()[0])
	// Output:
	// 10.0.0.1
	// 10.0.0.2
}

func ExamplePool_Export() {
	ctx := context.Background()
	p := must(pool.New(pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.1-10.0.0.9"))}, nil))

	var text bytes.Buffer
	if err := p.Export(ctx, &text); err != nil {
		panic(err)
	}
	fmt.Print(text.String())
	// Output:
	// {
	//   "format": 1,
	//   "spec": {
	//     "ranges": [
	//       "10.0.0.1-10.0.0.9"
	//     ]
	//   },
	//   "revision": 0,
	//   "stats": [
	//     {
	//       "family": "IPv4",
	//       "total": "9",
	//       "reserved": "0",
	//       "used": "0",
	//       "free": "9"
	//     }
	//   ],
	//   "allocations": []
	// }
}
