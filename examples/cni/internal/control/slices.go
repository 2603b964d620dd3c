package control

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ipalloc/ipalloc/examples/cni/internal/network"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// nodeLister is a source that also knows which nodes exist.
type nodeLister interface {
	nodes(ctx context.Context) (map[string]bool, error)
}

// giveBackSlices gives back the slices of nodes that are gone, unless containers hold anything of them: their pools
// are deleted, and so the slices are free for other nodes. It asks for the nodes only if there are slices.
func (r *reconciler) giveBackSlices(ctx context.Context) error {
	lister, ok := r.live.(nodeLister)
	if !ok {
		return nil
	}
	var exist map[string]bool
	return r.eachInStore(ctx, func(s store.Store, info pool.Info) (err error) {
		node, isSlice := nodeOf(info)
		if !isSlice || info.Holders > 0 {
			return nil
		}
		if exist == nil {
			if exist, err = lister.nodes(ctx); err != nil {
				return err
			}
		}
		if exist[node] {
			return nil
		}
		return r.giveBackSlice(ctx, s, info.Name)
	})
}

// giveBackSlice deletes the pool of slices. A node that has come back and took an address of it meanwhile keeps it.
func (r *reconciler) giveBackSlice(ctx context.Context, s store.Store, name string) error {
	what := "gave back"
	if r.dryRun {
		what = "would give back"
	} else if err := pool.Delete(ctx, s, name, nil); errors.Is(err, pool.ErrInUse) || errors.Is(err, pool.ErrNoPool) {
		return nil
	} else if err != nil {
		return err
	}
	r.metrics.gaveBack(r.dryRun)
	fmt.Fprintf(r.Stdout, "%s %s\n", what, name)
	return nil
}

// nodeOf is the node whose slices the pool has; false if it has none.
func nodeOf(info pool.Info) (node string, isSlice bool) {
	if len(info.Grants) == 0 {
		return "", false
	}
	owner := info.Grants[0].Owner
	node = owner[:max(0, strings.LastIndexByte(owner, '/'))]
	return node, info.Name == network.SlicePool(info.Parent, node)
}

// errNoNodes is returned if the API server lists no nodes at all.
var errNoNodes = errors.New("the API server lists no nodes, not even this one: no slice is given back")

// nodes lists all nodes.
func (p *pods) nodes(ctx context.Context) (map[string]bool, error) {
	exist := map[string]bool{}
	err := p.list(ctx, "/api/v1/nodes", func(node item) { exist[node.Metadata.Name] = true })
	if err == nil && len(exist) == 0 {
		err = errNoNodes
	}
	return exist, err
}
