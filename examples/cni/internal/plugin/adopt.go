package plugin

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ipalloc/ipalloc/adopt/hostlocal"
	"github.com/ipalloc/ipalloc/examples/cni/internal/netpools"
	"github.com/ipalloc/ipalloc/examples/cni/internal/network"
	"github.com/ipalloc/ipalloc/pool"
)

// adopt makes a pool that does not exist yet of what the node holds under host-local, if there is anything: so that the
// first ADD of a new configuration gives no address to a second container. It is for stores of one node: the command
// adopts into others.
func (s *session) adopt(of network.Pool) error {
	folder := filepath.Join(s.DataDir, s.Name)
	if s.shared || s.Kind != network.HostLocal {
		return nil
	}
	if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	_, err := pool.Open(s, s.store, of.Name, nil)
	if !errors.Is(err, pool.ErrNoPool) && !errors.Is(err, pool.ErrUnfinished) {
		return err
	}
	held, err := netpools.Adopted(hostlocal.Read(os.DirFS(folder)), netpools.Labels(s.Header, s.node))
	if err != nil || len(held) == 0 {
		return err
	}
	_, err = pool.Import(s, s.store, of.Name, pool.Snapshot{Info: pool.Info{Spec: of.Spec}, Allocations: held}, nil)
	if errors.Is(err, pool.ErrExists) {
		return nil
	}
	return err
}
