package kube

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"

	"github.com/ipalloc/ipalloc/store"
)

// Options are the options of [Open]. The zero Options are the defaults. Options may be copied; Open does not keep them.
type Options struct {
	// Namespace is the namespace of the objects, a DNS label. The default, "", means "default". Pools of the same name
	// in two namespaces are different pools.
	Namespace string

	// Patience is how long a commit waits for another commit that is about to write the same record, and may have
	// crashed, before it stops that commit. If it is too short, the other commit only needs another attempt. The
	// default, 0, is 500 ms.
	Patience time.Duration

	// PageSize is the number of objects in each page of List. The default, 0, is 500.
	PageSize int

	// Parallel is the largest number of requests that one call sends at once. The default, 0, is 16.
	Parallel int

	// Unchecked makes Open send no request. It is for programs that live for one commit, such as a CNI plugin, which
	// takes fewer requests than the check. What Open would have found fails the commit, as each write is checked again.
	Unchecked bool
}

const (
	defaultNamespace = "default"
	defaultPatience  = 500 * time.Millisecond
	defaultPageSize  = 500
	defaultParallel  = 16
)

func (o Options) withDefaults() Options {
	if o.Namespace == "" {
		o.Namespace = defaultNamespace
	}
	if o.Patience == 0 {
		o.Patience = defaultPatience
	}
	if o.PageSize == 0 {
		o.PageSize = defaultPageSize
	}
	if o.Parallel == 0 {
		o.Parallel = defaultParallel
	}
	return o
}

// Store is a [store.Store] on the Kubernetes API. The package comment says what it guarantees.
//
// A request that the server refuses with 429 is sent again after the time that the server names, or one second if it
// names none, if the context leaves time for that. So are reads, and writes of records before the commit point, after a
// 503 that names a time.
//
// The zero Store is not usable, see [Open]. A Store must not be copied. All methods may be called by any number of
// goroutines at once.
type Store struct {
	api     api
	options Options
	cache   *cache
	ledger  *ledger
	tails   *tails
	pace    *pace
	now     func() time.Time
	rivals  *rivals
	lobby   *lobby
	held    *sync.Map // the turns that callers have or wait for
	maxTurn time.Duration
	newID   func() string

	rollFrom int // a commit that writes so many records has a roll
	pause    func(ctx context.Context, d time.Duration) error

	closing context.Context // done once the handle is closed
	close   context.CancelCauseFunc
	lack    atomic.Pointer[error] // see miss
	working context.Context       // done once nothing goes on in the background any more
	stop    context.CancelFunc
}

var (
	_ store.Store    = (*Store)(nil)
	_ store.Auditor  = (*Store)(nil)
	_ store.Labeller = (*Store)(nil)
	_ store.Grouper  = (*Store)(nil)
)

// Open returns a handle on the store in a namespace of the API server of config. A nil opts is the same as the zero
// Options.
//
// The config is copied. A rate limit that it sets is kept. If it sets none there is no limit, because client-go's
// default of 5 requests a second would allow only one or two allocations a second. Its Timeout, if set, bounds each
// request.
//
// Open asks the server whether a commit would work. A user without any right to write gets a handle too: its reads
// work, and a commit fails with [ErrForbidden]. It is no error if the server does not answer within ten seconds, or
// asks the client to wait: each write is checked again. See also [Options.Unchecked].
//
// Errors: [store.ErrInvalid] for an option that breaks a rule, such as a namespace that is no DNS label;
// [ErrNotInstalled] and [ErrDefinitions] if manifests must be applied; [ErrForbidden] if the user has some of the
// rights to write of the role ipalloc-writer, but not all; the context's. Cost: nine requests, at most
// [Options.Parallel] at once, that store nothing (dry runs of a create, an update and a delete for each resource).
func Open(ctx context.Context, config *rest.Config, opts *Options) (*Store, error) {
	if opts == nil {
		opts = &Options{}
	}
	if err := opts.check(); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if config == nil {
		return nil, fmt.Errorf("open store: %w: the config is nil", store.ErrInvalid)
	}
	options := opts.withDefaults()
	c, err := newClient(config, options.Namespace, options.PageSize)
	if err == nil && !options.Unchecked {
		err = c.probe(ctx, options.Parallel)
	}
	if err != nil {
		return nil, fmt.Errorf("open store on %s: %w", config.Host, err)
	}
	s := newStore(c, options)
	s.lobby = lobbyOf(config, options.Namespace)
	return s, nil
}

// check returns an error if an option breaks a rule.
func (o *Options) check() error {
	if o.Patience < 0 || o.PageSize < 0 || o.Parallel < 0 {
		return fmt.Errorf("%w: a negative option in %+.300v", store.ErrInvalid, *o)
	}
	if broken := validation.IsDNS1123Label(o.Namespace); o.Namespace != "" && len(broken) > 0 {
		return fmt.Errorf("%w: the namespace %.80q is not valid: %s",
			store.ErrInvalid, o.Namespace, strings.Join(broken, "; "))
	}
	return nil
}

func newStore(a api, options Options) *Store {
	closing, stop := context.WithCancelCause(context.Background())
	s := &Store{
		api: a, options: options, cache: newCache(), ledger: newLedger(), tails: newTails(), pace: &pace{},
		rivals: newRivals(), lobby: newLobby(), held: new(sync.Map), maxTurn: store.MaxTurn,
		newID: rand.Text, rollFrom: rollFrom, pause: wait, closing: closing, close: stop,
		now: time.Now, //nolint:forbidigo // measures how long requests and others' turns take, and decides nothing else
	}
	s.working, s.stop = context.WithCancel(context.Background())
	return s
}

// Namespace returns the namespace of the objects. It may be called after Close.
func (s *Store) Namespace() string { return s.options.Namespace }

// Close implements [store.Store]. It ends calls of Watch; other running calls go on. It settles what this handle's
// commits have left pending, for five seconds at most, and leaves the rest to others. When it returns, the handle runs
// no goroutine except those of running calls.
func (s *Store) Close() error {
	s.close(store.ErrClosed)
	s.held.Range(func(t, _ any) bool {
		t.(*turn).End()
		return true
	})
	s.shut()
	return nil
}

func (s *Store) usable(ctx context.Context) error {
	if s.closing.Err() != nil {
		return store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("kubernetes store: %w", err)
	}
	return nil
}

// wait is the pause of a real handle.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Get implements [store.Store]. Cost: one request; one or two more if a commit has not settled the record yet.
func (s *Store) Get(ctx context.Context, key store.Key) (store.Record, error) {
	if err := s.usable(ctx); err != nil {
		return store.Record{}, err
	}
	if err := key.Validate(); err != nil {
		return store.Record{}, err
	}
	o, err := s.read(ctx, refOf(key), key)
	if err != nil && !errors.Is(err, errAbsent) {
		return store.Record{}, err
	}
	if o == nil || o.current() == nil {
		return store.Record{}, fmt.Errorf("%w: %v", store.ErrNotFound, key)
	}
	return o.current().Canonical(), nil
}

// notInPool returns the error of Find when there is nothing to find.
func notInPool(pool string, addr netip.Addr) error {
	return fmt.Errorf("%w: no allocation of pool %q contains %v", store.ErrNotFound, pool, addr)
}

// Version implements [store.Versioned].
func (s *Store) Version(ctx context.Context) (string, error) {
	if err := s.usable(ctx); err != nil {
		return "", err
	}
	c, ok := s.api.(*client)
	if !ok {
		return "", nil
	}
	version, err := c.version(ctx)
	if err != nil {
		return "", fmt.Errorf("the version of the API server: %w", err)
	}
	return "Kubernetes " + version, nil
}
