package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ipalloc/ipalloc/adopt"
	"github.com/ipalloc/ipalloc/adopt/calico"
	"github.com/ipalloc/ipalloc/adopt/clusterapi"
	"github.com/ipalloc/ipalloc/adopt/csv"
	"github.com/ipalloc/ipalloc/adopt/dnsmasq"
	"github.com/ipalloc/ipalloc/adopt/goipam"
	"github.com/ipalloc/ipalloc/adopt/hostlocal"
	"github.com/ipalloc/ipalloc/adopt/isc"
	"github.com/ipalloc/ipalloc/adopt/kea"
	"github.com/ipalloc/ipalloc/adopt/kubernetes"
	"github.com/ipalloc/ipalloc/adopt/whereabouts"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

const (
	// adoptedLabel is the label of what was adopted: its value is the format.
	adoptedLabel = "adopted"
	// formatHostLocal is the only format that is a folder.
	formatHostLocal = "hostlocal"
	// maxListed is how many clashes are listed without --all.
	maxListed = 1000
)

// adoptReaders are the readers of files, by format.
var adoptReaders = map[string]func(io.ReadSeeker) adopt.Entries{
	"calico": calico.Read, "clusterapi": clusterapi.Read, "csv": csv.Read, "dnsmasq": dnsmasq.Read, "goipam": goipam.Read,
	"isc": isc.Read, "kea": kea.Read, "kubernetes": kubernetes.Read,
	"whereabouts": func(r io.ReadSeeker) adopt.Entries { return whereabouts.Read(r, nil) },
}

// adoptFormats are the names of the formats, for people.
var adoptFormats = []string{
	"calico", "cluster-api", "csv", "dnsmasq", "go-ipam", "host-local", "isc", "kea", "kubernetes", "whereabouts",
}

// adoptFlags are the flags of the command.
type adoptFlags struct {
	from   string
	pools  []string
	only   []string
	all    bool
	dryRun bool
}

func (a *app) adopt() *cobra.Command {
	var f adoptFlags
	c := &cobra.Command{
		Use: "adopt FILE|FOLDER|-", Short: "Take over what another system has in use", Args: arguments(1, 1),
		Long: `Take over addresses that another system has in use: each becomes an allocation of
its owner, in the pool whose ranges have it. The pools must exist; create and
ensure also read the configurations of Cluster API, Whereabouts and host-local.

  FORMAT       what is read                               the owner
  calico       IPAMBlock objects                          the handle
  cluster-api  IPAddress objects                          UID of the claim
  csv          columns owner, prefixes, expires, scope,   the column owner
               labels, label.NAME; or what owners prints
  dnsmasq      dnsmasq.leases                             id:HEX or hw:MAC;
  isc          dhcpd.leases, dhcpd6.leases                of DHCPv6
  kea          kea-leases4.csv, kea-leases6.csv, lease-   duid:HEX/KIND/IAID
               dump, answer to lease4-get-all
  go-ipam      a dump, or the file of its storage         the address
  host-local   the folder of a network                    CONTAINER/INTERFACE
  kubernetes   Services and Nodes                         NAMESPACE/NAME, NAME
  whereabouts  IPPool objects                             CONTAINER/INTERFACE

Kubernetes objects are read as kubectl prints them, in JSON or YAML; long lists
better in JSON, which is read object by object.

Everything is read and checked before anything is written. Clashes keep nothing
else back. They are listed with the place in the file: an address that is there
twice, which the first owner gets; one that another owner holds in the pool; an
owner that holds something else; an address that no pool hands out. The exit
code is then 8. Leases that have ended are left out. Do it again at any time:
what was adopted before stays as it is.

With --dry-run, do all of that to copies of the pools in memory, where a million
addresses take about 2 GiB.

To go back: the other system's files and objects were only read, so it goes on
where it was. What was adopted has the label adopted=FORMAT (without dashes),
beside the labels of the source; ipalloc owners -l adopted=kea lists it, and
ipalloc release takes it out again.`,
		Example: `  ipalloc adopt --from kea /var/lib/kea/kea-leases4.csv --pool lan --dry-run
  ipalloc adopt --from host-local /var/lib/cni/networks/pods
  kubectl get nodes -o json | ipalloc adopt --from kubernetes --only kind=PodCIDR -`,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: func(c *cobra.Command, args []string) error { return a.runAdopt(c.Context(), f, args[0]) },
	}
	flags := c.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.from, "from", "", "format of what is read")
	flags.StringArrayVar(&f.pools, "pool", nil, "adopt only into this pool; may be repeated")
	flags.StringArrayVar(&f.only, "only", nil, "adopt only what has this label, NAME=VALUE; may be repeated")
	flags.BoolVar(&f.all, "all", false, "list everything, not only clashes")
	flags.BoolVar(&f.dryRun, "dry-run", false, "show what would be adopted, and change nothing")
	_ = c.RegisterFlagCompletionFunc("from", cobra.FixedCompletions(adoptFormats, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("pool", a.completePools)
	return c
}

func (a *app) runAdopt(ctx context.Context, f adoptFlags, file string) error {
	only, err := parseLabels(f.only)
	if err == nil {
		err = a.checkFormat()
	}
	if err != nil {
		return err
	}
	format := strings.ReplaceAll(f.from, "-", "")
	entries, closeSource, err := a.openSource(format, file)
	if err != nil {
		return err
	}
	err = a.withStore(ctx, false, func(db store.Store) error {
		pools, err := openPools(ctx, db, f.pools)
		if err != nil {
			return err
		}
		report := &adoptReport{
			From: format, DryRun: f.dryRun, Pools: []adoptedPool{}, Entries: []adoptedEntry{}, all: f.all,
			byName: map[string]int{},
		}
		options := &adopt.Options{DryRun: f.dryRun, Clock: a.now, Labels: map[string]string{adoptedLabel: format}}
		progress := a.newCounter()
		for result, err := range adopt.Into(ctx, pools, adopt.Only(entries, only), options) {
			if err != nil {
				progress.end()
				return err
			}
			report.add(result)
			progress.add(result)
		}
		progress.end()
		if err := a.printAdopted(report); err != nil {
			return err
		}
		return report.err()
	})
	return errors.Join(err, closeSource())
}

// openSource opens what is to be read. Errors of its entries name the file.
func (a *app) openSource(format, file string) (adopt.Entries, func() error, error) {
	read, ok := adoptReaders[format]
	switch {
	case format == formatHostLocal:
		info, err := os.Stat(file)
		if err == nil && !info.IsDir() {
			err = usagef("%q is no folder, want that of a network, such as /var/lib/cni/networks/pods", file)
		}
		return naming(file, hostlocal.Read(os.DirFS(file))), func() error { return nil }, err
	case !ok:
		return nil, nil, usagef("the format is %q, want --from with one of: %s", format, strings.Join(adoptFormats, ", "))
	}
	r, closeSource, err := a.openFile(file)
	if err != nil {
		return nil, nil, err
	}
	return naming(file, read(r)), closeSource, nil
}

// naming returns the entries with errors that name the file.
func naming(file string, entries adopt.Entries) adopt.Entries {
	return func(yield func(adopt.Entry, error) bool) {
		for e, err := range entries {
			if err != nil {
				err = fmt.Errorf("file %q: %w", file, err)
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// openFile opens a file, or a copy of what cannot be read twice, such as the standard input.
func (a *app) openFile(name string) (io.ReadSeeker, func() error, error) {
	if name == "-" {
		return adopt.Spool(a.stdin)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		err = usagef("%q is a folder, want a file; only the format host-local is a folder", name)
	case !info.Mode().IsRegular():
		r, remove, err := adopt.Spool(f)
		return r, remove, errors.Join(err, f.Close())
	default:
		return f, f.Close, nil
	}
	return nil, nil, errors.Join(err, f.Close())
}

// openPools opens the named pools, or all, of which there must be one.
func openPools(ctx context.Context, db store.Store, names []string) ([]*pool.Pool, error) {
	if len(names) == 0 {
		infos, err := listPools(ctx, db)
		if err != nil {
			return nil, err
		}
		for _, i := range infos {
			names = append(names, i.Name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%w: the store has none; create makes one", pool.ErrNoPool)
	}
	var pools []*pool.Pool
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return nil, usagef("the pool %q is named twice", name)
		}
		p, err := pool.Open(ctx, db, name, nil)
		if err != nil {
			return nil, err
		}
		pools = append(pools, p)
	}
	return pools, nil
}

// adoptReport is what the command prints.
type adoptReport struct {
	From   string `json:"from"`
	DryRun bool   `json:"dryRun,omitempty"`
	adoptCounts
	Pools []adoptedPool `json:"pools"`
	// Entries are the clashes, or all. Unlisted is how many clashes more there are.
	Entries  []adoptedEntry `json:"entries"`
	Unlisted int            `json:"unlisted,omitempty"`

	all    bool
	byName map[string]int // where the counts of a pool are
}

// adoptCounts are how many entries had each outcome.
type adoptCounts struct {
	Adopted int `json:"adopted"`
	Held    int `json:"held"`
	Ended   int `json:"ended"`
	Clashes int `json:"clashes"`
}

func (c *adoptCounts) add(o adopt.Outcome) {
	switch o {
	case adopt.Adopted:
		c.Adopted++
	case adopt.Held:
		c.Held++
	case adopt.Ended:
		c.Ended++
	case adopt.Clash:
		c.Clashes++
	}
}

func (c *adoptCounts) cells() []string {
	return []string{strconv.Itoa(c.Adopted), strconv.Itoa(c.Held), strconv.Itoa(c.Ended), strconv.Itoa(c.Clashes)}
}

// adoptedPool is the counts of a pool; without a name, of what is in none.
type adoptedPool struct {
	Pool string `json:"pool"`
	adoptCounts
}

// adoptedEntry is a result as it is printed.
type adoptedEntry struct {
	Outcome  adopt.Outcome     `json:"outcome"`
	Pool     string            `json:"pool"`
	Owner    string            `json:"owner"`
	Prefixes []string          `json:"prefixes"`
	Expires  time.Time         `json:"expires,omitzero"`
	Scope    string            `json:"scope,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	At       string            `json:"at"`
	Holder   string            `json:"holder,omitempty"`
	HolderAt string            `json:"holderAt,omitempty"`
	Reason   string            `json:"reason,omitempty"`
}

func (r *adoptReport) add(result adopt.Result) {
	r.adoptCounts.add(result.Outcome)
	i, ok := r.byName[result.Pool]
	if !ok {
		i = len(r.Pools)
		r.byName[result.Pool] = i
		r.Pools = append(r.Pools, adoptedPool{Pool: result.Pool})
	}
	r.Pools[i].add(result.Outcome)
	switch {
	case !r.all && result.Outcome != adopt.Clash:
	case !r.all && len(r.Entries) == maxListed:
		r.Unlisted++
	default:
		r.Entries = append(r.Entries, entryOf(result))
	}
}

func entryOf(r adopt.Result) adoptedEntry {
	e := adoptedEntry{
		Outcome: r.Outcome, Pool: r.Pool, Owner: r.Owner, Prefixes: []string{}, Expires: r.Ends, Scope: r.Scope,
		Labels: r.Labels, At: r.At, Holder: r.Holder, HolderAt: r.HolderAt,
	}
	for _, p := range r.Prefixes {
		e.Prefixes = append(e.Prefixes, p.String())
	}
	e.Reason = reasonOf(r.Err)
	return e
}

// reasonOf is the text of an error, without the pool and the owner, which stand beside it.
func reasonOf(err error) string {
	var failed *pool.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &failed):
		return failed.Err.Error()
	}
	return err.Error()
}

// errClashes is a command that did only a part of what was asked.
var errClashes = errors.New("clashes")

func (r *adoptReport) err() error {
	if r.Clashes == 0 {
		return nil
	}
	verb := "were not"
	if r.DryRun {
		verb = "would not be"
	}
	text := fmt.Sprintf("%d of %d clash, and %s adopted", r.Clashes, r.Clashes+r.Adopted+r.Held, verb)
	if r.Unlisted > 0 {
		text += fmt.Sprintf("; %d of them are not listed, --all lists them", r.Unlisted)
	}
	return &clashesError{text}
}

// clashesError is an error that wraps errClashes. Its text does not say so.
type clashesError struct{ text string }

func (e *clashesError) Error() string { return e.text }
func (e *clashesError) Unwrap() error { return errClashes }

// printAdopted prints the report; as a table for people, that of the entries and one of the counts.
func (a *app) printAdopted(r *adoptReport) error {
	slices.SortStableFunc(r.Pools, func(a, b adoptedPool) int { return strings.Compare(a.Pool, b.Pool) })
	entries := table{columns: []string{"outcome", "pool", "owner", "prefixes", "expires", "at", "holder", "reason"}}
	for _, e := range r.Entries {
		entries.add(string(e.Outcome), e.Pool, e.Owner, strings.Join(e.Prefixes, ","), timeText(e.Expires), e.At, e.Holder,
			e.Reason)
	}
	if a.output != formatTable {
		return a.print(r, entries)
	}
	if len(r.Entries) > 0 {
		if err := printTable(a.stdout, entries); err != nil {
			return err
		}
		fmt.Fprintln(a.stdout)
	}
	counts := table{columns: []string{"pool", "adopted", "held", "ended", "clashes"}}
	for _, p := range r.Pools {
		counts.add(append([]string{p.Pool}, p.cells()...)...)
	}
	return printTable(a.stdout, counts)
}

// counter tells on a terminal how much was adopted, and nothing elsewhere.
type counter struct {
	adoptCounts
	app   *app
	shown bool
	n     int
}

func (a *app) newCounter() *counter {
	_, shown := isTerminal(a.stderr)
	return &counter{app: a, shown: shown}
}

func (c *counter) add(r adopt.Result) {
	const each = 1024
	c.adoptCounts.add(r.Outcome)
	if c.n++; c.shown && c.n%each == 0 {
		fmt.Fprintf(c.app.stderr, "\rread %d, adopted %d, clashes %d\x1b[K", c.n, c.Adopted, c.Clashes)
	}
}

// end removes the line.
func (c *counter) end() {
	if c.shown {
		fmt.Fprint(c.app.stderr, "\r\x1b[K")
	}
}
