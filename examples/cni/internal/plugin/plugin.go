// Package plugin is the CNI plugin: what each command does to the pools of a network.
//
// An attachment, a container's id and the name of its interface, is the owner of its addresses. So ADD is idempotent, a
// late DEL of one container frees nothing that another one holds, and a plugin that is killed leaves nothing behind
// that a DEL does not free.
package plugin

import (
	"context"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/ipalloc/ipalloc/examples/cni/internal/driver"
	"github.com/ipalloc/ipalloc/examples/cni/internal/netpools"
	"github.com/ipalloc/ipalloc/examples/cni/internal/network"
	"github.com/ipalloc/ipalloc/store"
)

// Timeout is how long a command tries. Runtimes wait longer.
const Timeout = 90 * time.Second

// Main is the main function of a plugin with these drivers.
func Main(drivers driver.Set) {
	p := plugin{drivers: drivers, node: netpools.NodeName}
	skel.PluginMainFuncs(skel.CNIFuncs{
		Add: p.add, Del: p.del, Check: p.check, GC: p.gc, Status: p.status,
	}, version.All, "CNI plugin ipalloc: addresses for host-local, static and whereabouts configurations")
}

type plugin struct {
	drivers driver.Set
	node    func() (string, error)
}

// session is one command on a store that is open.
type session struct {
	context.Context
	network.Header
	store  store.Store
	shared bool
	node   string
	cancel context.CancelFunc
}

// open opens the store of a configuration. The caller closes the session. If create is false, the error may wrap
// fs.ErrNotExist: there is no store, so nothing is held.
func (p *plugin) open(h network.Header, create bool) (*session, error) {
	of, err := p.drivers.Find(h.Store)
	if err != nil {
		return nil, err
	}
	node, err := p.node()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	s, err := of.Open(ctx, h.Store, create)
	if err != nil {
		cancel()
		return nil, err
	}
	return &session{Context: ctx, Header: h, store: s, shared: of.Shared, node: node, cancel: cancel}, nil
}

// close closes the store. All that the command has done is durable already.
func (s *session) close() {
	defer s.cancel()
	_ = s.store.Close()
}
