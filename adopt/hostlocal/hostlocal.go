// Package hostlocal reads and writes the files of host-local, the IPAM plugin of CNI.
//
// host-local keeps a folder for each network, /var/lib/cni/networks/NETWORK unless dataDir says otherwise, with a file
// for each address: its name is the address, and its text the container and, on the next line, the interface. The
// format is that of backend/disk in github.com/containernetworking/plugins 1.9; versions before 0.8 wrote no interface,
// for which eth0 is read. The lock and the files with the last address of each set are passed over. A file that names
// no container is left out: that is what a crash of host-local leaves behind.
//
// The owner is CONTAINER/INTERFACE, with all addresses of the attachment.
package hostlocal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/ipalloc/ipalloc/adopt"
	"github.com/ipalloc/ipalloc/adopt/internal/input"
)

// Interface is the interface of a container whose file names none.
const Interface = "eth0"

// maxBytes is how large a file may be: names of containers and interfaces are short.
const maxBytes = 4096

// Read returns what the files in the folder of a network say, in the order of the owners. Cost: O(files).
func Read(network fs.FS) adopt.Entries {
	files := input.Stream(func(yield func(adopt.Entry) error) error {
		files, err := fs.ReadDir(network, ".")
		if err != nil {
			return err
		}
		for _, file := range files {
			if err := readFile(network, file, yield); err != nil {
				return err
			}
		}
		return nil
	})
	return input.Group(files, func(adopt.Entry) string { return "" })
}

func readFile(network fs.FS, file fs.DirEntry, yield func(adopt.Entry) error) error {
	if !isAddress(file) {
		return nil // the lock, or the last address
	}
	text, err := fs.ReadFile(network, file.Name())
	if errors.Is(err, fs.ErrNotExist) {
		return nil // released meanwhile
	}
	if err != nil {
		return err
	}
	at := "file " + file.Name()
	if len(text) > maxBytes {
		return input.Invalid(at, "it has %d bytes, want at most %d", len(text), maxBytes)
	}
	prefix, err := input.Prefix(file.Name())
	if err != nil {
		return input.Invalid(at, "%w", err)
	}
	owner := ownerOf(string(text))
	if owner == "" {
		return nil
	}
	return yield(adopt.Entry{Owner: owner, Prefixes: []netip.Prefix{prefix}, At: at})
}

func isAddress(file fs.DirEntry) bool {
	_, err := netip.ParseAddr(file.Name())
	return err == nil && file.Type().IsRegular()
}

// ownerOf is the owner that a file names: a container and, on the next line, its interface.
func ownerOf(text string) string {
	container, ifname, _ := strings.Cut(strings.TrimSpace(text), "\n")
	container, ifname = strings.TrimSpace(container), strings.TrimSpace(ifname)
	if container == "" {
		return ""
	}
	return container + "/" + cmp.Or(ifname, Interface)
}

// Write writes the files that host-local has for the entries into the folder of a network, and makes the folder. Files
// that are there stay, and must name the same attachment. Each file is written whole and synced, since host-local takes
// an empty one for an address in use.
//
// Errors: pool.ErrInvalid for an owner that is not CONTAINER/INTERFACE, or a prefix that is not one address, before
// anything is written; [fs.ErrExist] for a file that names another attachment.
func Write(dir string, entries ...adopt.Entry) error {
	for _, e := range entries {
		if container, ifname, ok := strings.Cut(e.Owner, "/"); !ok || container == "" || ifname == "" {
			return input.Invalid(input.Quote(e.Owner), "the owner is not CONTAINER/INTERFACE")
		}
		for _, p := range e.Prefixes {
			if !p.IsSingleIP() {
				return input.Invalid(input.Quote(e.Owner), "%v is not one address", p)
			}
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, e := range entries {
		container, ifname, _ := strings.Cut(e.Owner, "/")
		for _, p := range e.Prefixes {
			if err := writeNew(filepath.Join(dir, p.Addr().String()), container+"\r\n"+ifname); err != nil {
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
			return fmt.Errorf("%w: %s names %s", fs.ErrExist, path, input.Quote(string(there)))
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
