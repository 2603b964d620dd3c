package metrics

import (
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// Options are what a Metrics may be told. The zero Options, and a nil pointer to it, mean the defaults.
type Options struct {
	// Namespace is what the names of the metrics begin with. Default: "ipalloc".
	Namespace string

	// ConstLabels are labels of every metric, such as the name of the store where a process uses several. Default: none.
	ConstLabels prometheus.Labels

	// Buckets are the upper bounds of the histograms, in seconds. Default: 16 bounds, from 50 µs, each
	// twice the one before.
	Buckets []float64

	// MaxPools is how many pools have metrics of their own, at the same time. Default: 1,000.
	MaxPools int

	// Timeout bounds how long a scrape reads pools. Default: 5 s.
	Timeout time.Duration

	// Logger is told why a scrape could not read pools. Default: nothing is logged.
	Logger *slog.Logger
}

func (o *Options) withDefaults() Options {
	var with Options
	if o != nil {
		with = *o
	}
	if with.Namespace == "" {
		with.Namespace = "ipalloc"
	}
	if len(with.Buckets) == 0 {
		with.Buckets = prometheus.ExponentialBuckets(50e-6, 2, 16)
	}
	if with.MaxPools <= 0 {
		with.MaxPools = 1000
	}
	if with.Timeout <= 0 {
		with.Timeout = 5 * time.Second
	}
	if with.Logger == nil {
		with.Logger = slog.New(slog.DiscardHandler)
	}
	return with
}

// otherPools is the label of the pools for which there is no room.
const otherPools = "_other"

// Metrics is a [prometheus.Collector], to be registered, and a [pool.Observer], for [pool.Options].
//
// The zero Metrics is not usable, and a Metrics must not be copied. All methods may be called by any
// number of goroutines at once.
type Metrics struct {
	pool.NoObserver
	options Options

	calls           *prometheus.CounterVec
	callDurations   *prometheus.HistogramVec
	commits         *prometheus.CounterVec
	commitDurations *prometheus.HistogramVec
	addresses       *prometheus.Desc
	reservations    *prometheus.Desc
	history         *prometheus.Desc
	quotaHeld       *prometheus.Desc
	quotaMost       *prometheus.Desc
	up              *prometheus.Desc

	mu      sync.RWMutex
	slots   map[string]*slot // by the names of the pools that have metrics of their own
	scrapes int64            // how many have read all pools
	stores  []store.Store
	pools   map[string]*pool.Pool
}

var (
	_ prometheus.Collector = (*Metrics)(nil)
	_ pool.Observer        = (*Metrics)(nil)
)

// New returns a Metrics that observes whoever is given it as an observer, and reads no pools until it is told of some.
func New(options *Options) *Metrics {
	o := options.withDefaults()
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: o.Namespace, Name: name, Help: help, ConstLabels: o.ConstLabels,
		}, labels)
	}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: o.Namespace, Name: name, Help: help, ConstLabels: o.ConstLabels, Buckets: o.Buckets,
		}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(o.Namespace, "", name), help, labels, o.ConstLabels)
	}
	return &Metrics{
		options: o,
		calls: counter("calls_total", "Calls that allocate, release or renew, by how they ended.",
			"pool", "call", "result"),
		callDurations: histogram("call_duration_seconds",
			"How long calls took, waiting for their turn included.", "pool", "call"),
		commits:         counter("commits_total", "Attempts to commit to the store, by how they ended.", "pool", "result"),
		commitDurations: histogram("commit_duration_seconds", "How long the store took for an attempt to commit.", "pool"),
		addresses:       gauge("addresses", "Addresses of the pool by their state.", "pool", "family", "state"),
		reservations:    gauge("reservations", "Owners for whom something is reserved.", "pool"),
		history:         gauge("history", "Tenures that have ended and are remembered, at most.", "pool"),
		quotaHeld: gauge("quota_held", "Addresses that count for a quota: see pool.QuotaUse.",
			"pool", "label", "value", "family"),
		quotaMost: gauge("quota_most", "Addresses that the least of the quotas allows: see pool.QuotaUse.",
			"pool", "label", "value", "family"),
		up:    gauge("up", "1 if all pools could be read at this scrape, else 0."),
		slots: map[string]*slot{},
		pools: map[string]*pool.Pool{},
	}
}

// AddStore makes each scrape read the counts of all pools in the store. If two stores have a pool of the same name,
// each store needs a Metrics of its own, with different ConstLabels.
func (m *Metrics) AddStore(s store.Store) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stores = append(m.stores, s)
}

// AddPool makes each scrape read the counts of one pool, with name as its label. It is for a pool in memory, which has
// no name of its own (see [Metrics.Named]), and for some pools of a store that is not to be read whole. It replaces an
// earlier pool of that name, and hides one of that name in a store. A pool that is deleted from its store is forgotten,
// see [Metrics.Forget].
func (m *Metrics) AddPool(name string, p *pool.Pool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pools[name] = p
}

// Forget drops the metrics of a pool. Scrapes no longer read the pool unless it is in a store that was added.
// If it is used again, its metrics start anew. A pool that a scrape has found and that is deleted is forgotten by
// itself.
func (m *Metrics) Forget(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.pools, name)
	m.drop(name)
}
