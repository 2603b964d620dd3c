package pool_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// nester puts its name into the contexts, behind those of the observers before it, and logs what its End methods get.
type nester struct {
	name string
	log  *[]string
}

type nesterKey struct{}

func (n nester) begin(ctx context.Context) context.Context {
	before, _ := ctx.Value(nesterKey{}).(string)
	return context.WithValue(ctx, nesterKey{}, before+n.name)
}

func (n nester) end(ctx context.Context, what string) {
	*n.log = append(*n.log, fmt.Sprint(n.name, " ends ", what, " of ", ctx.Value(nesterKey{})))
}

func (n nester) BeginCall(ctx context.Context, _ pool.Call) context.Context { return n.begin(ctx) }

func (n nester) EndCall(ctx context.Context, call pool.Call) { n.end(ctx, call.Method) }

func (n nester) BeginCommit(ctx context.Context, _ pool.Commit) context.Context {
	return n.begin(ctx)
}

func (n nester) EndCommit(ctx context.Context, _ pool.Commit) { n.end(ctx, "commit") }

func TestEachOfSeveralObserversGetsItsOwnContexts(t *testing.T) {
	var log []string
	a, b, c := nester{"a", &log}, nester{"b", &log}, nester{"c", &log}
	s := store.NewMemory()
	create(t, s, specOf("10.0.0.0/24"))
	p, err := pool.Open(t.Context(), s, "blue",
		&pool.Options{Observer: pool.Observers(a, nil, pool.Observers(b, c))})
	require.NoError(t, err)
	allocate(t, p, pool.Claim{Owner: "owner"})
	require.Equal(t, []string{
		"c ends commit of abcabc", "b ends commit of abcab", "a ends commit of abca",
		"c ends Allocate of abc", "b ends Allocate of ab", "a ends Allocate of a",
	}, log)
	pool.Observers().EndCall(pool.Observers().BeginCall(t.Context(), pool.Call{}), pool.Call{})
}
