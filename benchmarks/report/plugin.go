package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ipalloc/ipalloc/benchmarks/peer"
	"github.com/ipalloc/ipalloc/pool"
)

// pluginPackages are the CNI plugins that keep their addresses as a kind of durable pool does: the module in this
// repository that builds each, and its package.
var pluginPackages = map[string]struct{ module, pkg string }{
	"ipalloc on bolt": {"examples/cni", "./cmd/ipalloc"},
	"bare bbolt":      {"benchmarks", "./bareplugin"},
	"host-local disk": {"examples/cni", "github.com/containernetworking/plugins/plugins/ipam/host-local"},
}

// pluginNetwork is the name of the network; those of the pools and of host-local's folder are the same.
const pluginNetwork = "pods"

// plugin is a CNI plugin on a node of its own.
type plugin struct {
	program string
	dir     string // of the addresses
	calls   int    // so far, each for another container
	floor   bool   // it is none, but what any takes
}

// program returns the path of the plugin of a kind, which is built once.
func (all *places) program(ctx context.Context, kind string) (string, error) {
	if _, ok := pluginPackages[kind]; !ok {
		return "", errNone
	}
	if all.programs == "" {
		var err error
		if all.programs, err = os.MkdirTemp("", "ipalloc-plugins-"); err != nil {
			return "", err
		}
	}
	path := filepath.Join(all.programs, strings.ReplaceAll(kind, " ", "-"))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return path, buildPlugin(ctx, kind, path)
}

// buildPlugin builds the plugin of a kind as plugins are released: without libc and symbols.
func buildPlugin(ctx context.Context, kind, path string) error {
	of := pluginPackages[kind]
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", ourModule).Output()
	if err != nil {
		return fmt.Errorf("the folder of %s: %w", ourModule, err)
	}
	folder := filepath.Join(strings.TrimSpace(string(root)), of.module)
	build := exec.CommandContext(ctx, "go", "build", "-C", folder, "-ldflags=-s -w", "-o", path, of.pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w: %s", of.pkg, err, output)
	}
	return nil
}

// inMemory is a folder in a file system in memory, as /run is: what is there lasts until the next start of the machine,
// and flushes cost nothing.
const inMemory = "/dev/shm"

// pluginCase is a row in which each plugin does the same, on a node where so many containers hold an address. The
// addresses are in a new folder within the folder within; empty for that of temporary files.
func pluginCase(
	within string, held int, do func(ctx context.Context, p *plugin, atLeast time.Duration) (reading, error),
) func(context.Context, subject) (work, error) {
	return func(ctx context.Context, s subject) (work, error) {
		program, err := s.places.program(ctx, s.kind.Name)
		if err == nil {
			err = s.places.drop(s.kind.Name)
		}
		if err != nil {
			return work{}, err
		}
		if _, err := os.Stat(within); within != "" && err != nil {
			return work{}, fmt.Errorf("%w: there is no %s here", peer.ErrCannot, within)
		}
		dir, err := os.MkdirTemp(within, "ipalloc-report-")
		if err != nil {
			return work{}, err
		}
		at := &place{kind: s.kind, dir: dir, address: dir, finish: func() error { return nil }}
		p := &plugin{program: program, dir: dir, floor: s.kind.Floor}
		if err := p.fill(ctx, s, held); err != nil {
			return work{}, errors.Join(err, at.end())
		}
		return work{place: at, round: func(ctx context.Context, atLeast time.Duration) (reading, error) {
			return do(ctx, p, atLeast)
		}}, nil
	}
}

// fill makes the pool, and has so many containers hold an address each.
func (p *plugin) fill(ctx context.Context, s subject, held int) error {
	if err := errors.Join(p.call(ctx, "ADD", "first"), p.call(ctx, "DEL", "first")); err != nil || held == 0 {
		return err
	}
	if s.kind.Store != nil {
		return fillPool(ctx, s, p.dir, held)
	}
	filled, err := s.kind.Open(ctx, p.dir, netip.MustParsePrefix(poolPrefix))
	if err != nil {
		return err
	}
	return errors.Join(filled.Fill(ctx, owners(held)), filled.Close())
}

// fillPool fills the pool that the plugin has made.
func fillPool(ctx context.Context, s subject, dir string, held int) (err error) {
	opened, err := s.kind.Store(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	filled, err := pool.Open(ctx, opened, pluginNetwork, nil)
	if err != nil {
		return err
	}
	steps := make([]pool.Step, held)
	for i, owner := range owners(held) {
		steps[i] = pool.Allocate(pool.Claim{Owner: owner})
	}
	for _, err := range filled.Each(ctx, slices.Values(steps)) {
		if err != nil {
			return err
		}
	}
	return nil
}

// call runs the plugin once.
func (p *plugin) call(ctx context.Context, command, container string) error {
	c := exec.CommandContext(ctx, p.program)
	c.Stdin = strings.NewReader(fmt.Sprintf(`{"cniVersion": "1.0.0", "name": %q, "type": "bridge",
		"ipam": {"type": "host-local", "dataDir": %q, "subnet": %q}}`, pluginNetwork, p.dir, poolPrefix))
	c.Env = []string{
		"CNI_COMMAND=" + command, "CNI_CONTAINERID=" + container, "CNI_IFNAME=eth0", "CNI_NETNS=/var/run/netns/none",
		"CNI_PATH=/opt/cni/bin", "DIR=" + p.dir,
	}
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", command, err, said.Bytes())
	}
	return nil
}

// container is another one each time.
func (p *plugin) container() string {
	p.calls++
	return "container-" + strconv.Itoa(p.calls)
}

// calls is the mean of calls of one command, each with what must come before and after it and is not timed.
func calls(command string, before, after func(context.Context, *plugin, string) error,
) func(context.Context, *plugin, time.Duration) (reading, error) {
	return func(ctx context.Context, p *plugin, atLeast time.Duration) (reading, error) {
		n, spent := 0, time.Duration(0)
		for ; n == 0 || spent < atLeast; n++ {
			container := p.container()
			if err := before(ctx, p, container); err != nil {
				return reading{}, err
			}
			start := time.Now()
			err := p.call(ctx, command, container)
			spent += time.Since(start)
			if err := errors.Join(err, after(ctx, p, container)); err != nil {
				return reading{}, err
			}
		}
		return reading{value: float64(spent.Nanoseconds()) / float64(n), allocs: -1}, nil
	}
}

// nothing is what comes before or after a call that needs nothing.
func nothing(context.Context, *plugin, string) error { return nil }

// del is the DEL after an ADD.
func del(ctx context.Context, p *plugin, container string) error {
	return p.call(ctx, "DEL", container)
}

// newNode gives the plugin an empty folder within the one it has.
func newNode(_ context.Context, p *plugin, container string) error {
	p.dir = filepath.Join(p.dir, container)
	return os.Mkdir(p.dir, 0o755)
}

// oldNode takes that folder away.
func oldNode(_ context.Context, p *plugin, _ string) error {
	used := p.dir
	p.dir = filepath.Dir(p.dir)
	return os.RemoveAll(used)
}

// atOnce is the time until so many ADDs that begin together have ended.
func atOnce(n int) func(context.Context, *plugin, time.Duration) (reading, error) {
	return func(ctx context.Context, p *plugin, _ time.Duration) (reading, error) {
		if p.floor {
			return reading{}, errNone // it waits for the lock without care
		}
		containers := make([]string, n)
		for i := range containers {
			containers[i] = p.container()
		}
		start := time.Now()
		err := p.together(ctx, "ADD", containers)
		took := time.Since(start)
		return reading{value: float64(took.Nanoseconds()), allocs: -1}, errors.Join(err, p.together(ctx, "DEL", containers))
	}
}

// together runs a command for all containers at once.
func (p *plugin) together(ctx context.Context, command string, containers []string) error {
	errs := make([]error, len(containers))
	var wg sync.WaitGroup
	for i, container := range containers {
		wg.Go(func() { errs[i] = p.call(ctx, command, container) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// programSize is how large the plugin's program is.
func programSize(_ context.Context, p *plugin, _ time.Duration) (reading, error) {
	info, err := os.Stat(p.program)
	if err != nil {
		return reading{}, err
	}
	return reading{value: float64(info.Size()), allocs: -1}, nil
}
