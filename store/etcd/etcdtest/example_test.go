package etcdtest_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store/etcd"
)

func Example() {
	addr, stop := exampleServer() // yours are at "10.0.0.1:2379", "10.0.0.2:2379", "10.0.0.3:2379"
	defer stop()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := etcd.Open(ctx, clientv3.Config{Endpoints: []string{addr}}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	spec, err := pool.ParseSpec("192.0.2.0/24", "2001:db8::/64")
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := pool.Ensure(ctx, s, "pods", spec, pool.Keep, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	a, err := p.Allocate(ctx, pool.Claim{Owner: "pod-7", Policy: pool.RequireDualStack})
	fmt.Println(a.Prefixes, err)
	// Output:
	// [192.0.2.1/32 2001:db8::1/128] <nil>
}

// exampleT is what an example has instead of a test.
type exampleT struct {
	testing.TB
	ended []func()
}

func (t *exampleT) Helper()                           {}
func (t *exampleT) Cleanup(f func())                  { t.ended = append(t.ended, f) }
func (t *exampleT) Errorf(format string, args ...any) { fmt.Printf(format, args...) }
func (t *exampleT) FailNow()                          { runtime.Goexit() }

func (t *exampleT) TempDir() string {
	folder, err := os.MkdirTemp("", "ipalloc")
	if err != nil {
		fmt.Println(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	return folder
}

func (t *exampleT) end() {
	for _, f := range slices.Backward(t.ended) {
		f()
	}
}

// exampleServer starts a server for an example, which the returned function stops.
func exampleServer() (addr string, stop func()) {
	t := &exampleT{}
	return startServer(t).addr, t.end
}
