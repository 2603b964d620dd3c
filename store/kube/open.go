package kube

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"github.com/ipalloc/ipalloc/store"
)

// Options are the options of [Open]. The zero Options are the defaults. Options may be copied; Open does not keep them.
type Options struct {
	// Namespace is where the objects are. The default, "", is "default".
	Namespace string

	// Patience is how long a commit waits for another that is about to write the same record and may have crashed,
	// before it stops it. Too short a time costs the other commit another attempt, and no more. The default, 0, is 500
	// ms.
	Patience time.Duration

	// PageSize is how many objects List asks for at once. The default, 0, is 500.
	PageSize int

	// Parallel is how many requests one call sends at once. The default, 0, is 16.
	Parallel int
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
	pause   func(ctx context.Context, d time.Duration) error

	closing context.Context // done once the handle is closed
	close   context.CancelCauseFunc
	working context.Context // done once nothing goes on in the background any more
	stop    context.CancelFunc
}

var _ store.Store = (*Store)(nil)

// Open returns a handle on the store in a namespace of the API server that config leads to. A nil opts is the same as
// the zero Options.
//
// Config is copied. If it says nothing of a rate limit, there is none on this side: the limit that client-go assumes, 5
// requests a second, is one or two allocations a second. A limit that it names is kept. Its Timeout, if set, bounds
// each request, and ends Watch with an error as often.
//
// Open sends no request: whether the server is there, serves the resources and lets the caller in shows in the first
// call.
func Open(config *rest.Config, opts *Options) (*Store, error) {
	if opts == nil {
		opts = &Options{}
	}
	if config == nil {
		return nil, fmt.Errorf("open store: %w: the config is nil", store.ErrInvalid)
	}
	if opts.Patience < 0 || opts.PageSize < 0 || opts.Parallel < 0 {
		return nil, fmt.Errorf("open store: %w: a negative option in %+v", store.ErrInvalid, *opts)
	}
	options := opts.withDefaults()
	c, err := newClient(config, options.Namespace, options.PageSize)
	if err != nil {
		return nil, fmt.Errorf("open store on %s: %w", config.Host, err)
	}
	s := newStore(c, options)
	s.lobby = lobbyOf(config.Host, options.Namespace)
	return s, nil
}

func newStore(a api, options Options) *Store {
	closing, stop := context.WithCancelCause(context.Background())
	s := &Store{
		api: a, options: options, cache: newCache(), ledger: newLedger(), tails: newTails(), pace: &pace{},
		rivals: newRivals(), lobby: newLobby(), held: new(sync.Map), maxTurn: store.MaxTurn,
		newID: rand.Text, pause: wait, closing: closing, close: stop,
		now: time.Now, //nolint:forbidigo // measures how long requests and others' turns take, and decides nothing else
	}
	s.working, s.stop = context.WithCancel(context.Background())
	return s
}

// Namespace returns the namespace of the objects, also after Close.
func (s *Store) Namespace() string { return s.options.Namespace }

// Close implements [store.Store]. It ends Watch; other calls that run go on. It settles what this handle's commits have
// left to settle, for five seconds at most, and leaves the rest to others. No goroutine of this handle runs when it
// returns, but those of calls that run.
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
