// Package adopt reads what other plugins have given to containers, so that pools can take it over.
package adopt

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ipalloc/ipalloc/pool"
)

// Interface is the interface of a container of whose interface host-local has no record: versions before 0.8 kept only
// the container.
const Interface = "eth0"

// HasHostLocal reports whether host-local has, or had, files for a network.
func HasHostLocal(dataDir, network string) bool {
	_, err := os.Stat(filepath.Join(dataDir, network))
	return !errors.Is(err, fs.ErrNotExist)
}

// HostLocal reads the files of host-local for a network. It returns one allocation for each attachment, with its
// addresses in their order; none if there is no folder. Files that name no container are left out: they are what a
// crash of host-local leaves behind.
func HostLocal(dataDir, network string) ([]pool.Allocation, error) {
	dir := filepath.Join(dataDir, network)
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	held := map[string][]netip.Prefix{}
	for _, file := range files {
		addr, err := netip.ParseAddr(file.Name())
		if err != nil || !file.Type().IsRegular() {
			continue // the lock, or the last address
		}
		text, err := os.ReadFile(filepath.Join(dir, file.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // released meanwhile
		}
		if err != nil {
			return nil, err
		}
		if owner := ownerOf(string(text)); owner != "" {
			held[owner] = append(held[owner], netip.PrefixFrom(addr, addr.BitLen()))
		}
	}
	return allocations(held), nil
}

// ownerOf is the owner that a file of host-local names: a container and, on the next line, its interface.
func ownerOf(text string) string {
	container, ifname, _ := strings.Cut(strings.TrimSpace(text), "\n")
	container, ifname = strings.TrimSpace(container), strings.TrimSpace(ifname)
	if container == "" {
		return ""
	}
	return container + "/" + cmp.Or(ifname, Interface)
}

// allocations makes an allocation of what each owner holds, in the order of the owners.
func allocations(held map[string][]netip.Prefix) []pool.Allocation {
	var all []pool.Allocation
	for owner, prefixes := range held {
		slices.SortFunc(prefixes, netip.Prefix.Compare)
		all = append(all, pool.Allocation{Owner: owner, Prefixes: prefixes})
	}
	slices.SortFunc(all, func(a, b pool.Allocation) int { return cmp.Compare(a.Owner, b.Owner) })
	return all
}

// WriteHostLocal writes the files that host-local has for the allocations. A file that is there already must name the
// same attachment. Each file is written whole: host-local takes an empty one for an address in use.
func WriteHostLocal(dataDir, network string, held []pool.Allocation) error {
	dir := filepath.Join(dataDir, network)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, a := range held {
		container, ifname, _ := strings.Cut(a.Owner, "/")
		for _, addr := range a.Addrs() {
			if err := writeNew(filepath.Join(dir, addr.String()), container+"\r\n"+ifname); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeNew writes a file that is not there, or has that text already.
func writeNew(path, text string) error {
	if there, err := os.ReadFile(path); err == nil {
		if ownerOf(string(there)) != ownerOf(text) {
			return fmt.Errorf("%s is there, and names %q", path, there)
		}
		return nil
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), ".ipalloc-")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name())
	_, err = temporary.WriteString(text)
	if err = errors.Join(err, temporary.Sync(), temporary.Close()); err != nil {
		return err
	}
	return os.Link(temporary.Name(), path)
}
