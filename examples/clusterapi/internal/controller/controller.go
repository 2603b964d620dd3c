// Package controller is a Kubernetes controller that does what Cluster API's in-cluster IPAM provider does: it gives
// each IPAddressClaim an IPAddress from the pool that it names.
//
// Any number of replicas may run, each with any number of workers. They need no leader: who holds an address is decided
// by one commit in the store, and everything else may be done twice.
package controller

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/ipalloc/ipalloc/examples/clusterapi/internal/admission"
	"github.com/ipalloc/ipalloc/examples/clusterapi/internal/api"
	"github.com/ipalloc/ipalloc/examples/clusterapi/internal/pools"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/pool/metrics"
	"github.com/ipalloc/ipalloc/store/kube"
)

// Options configure a replica. The zero Options are usable: they are the defaults, without servers of its own.
type Options struct {
	// Namespace is where the store keeps its objects. Default: that of kube.Options.
	Namespace string
	// Workers is how many claims are worked on at once. Default: 16.
	Workers int
	// Sweep is how often a pool releases what is held by claims that no longer exist, and how long these must be missing.
	// It makes up for what a crash, or a change by hand, has left. Default: 10 minutes.
	Sweep time.Duration
	// Retry is how often a claim that cannot be met is tried again without any news of its pool. Default: 1 minute.
	Retry time.Duration
	// Settle is how long the counts in the status of a pool may lag behind. Default: 500 ms.
	Settle time.Duration
	// MetricsAddress and HealthAddress are where metrics and probes are served. Default: nowhere.
	MetricsAddress, HealthAddress string
	// Webhook is how the server for admission and conversion is reached; nil if there is none.
	Webhook *webhook.Options
	// Registry is where the metrics of the pools are registered. Default: that of controller-runtime, which
	// MetricsAddress serves. Each replica needs one of its own.
	Registry prometheus.Registerer
	// Logger receives what an operator should know. Default: no logging.
	Logger logr.Logger
}

func (o Options) withDefaults() Options {
	if o.Workers == 0 {
		o.Workers = 16
	}
	if o.Sweep == 0 {
		o.Sweep = 10 * time.Minute
	}
	if o.Retry == 0 {
		o.Retry = time.Minute
	}
	if o.Settle == 0 {
		o.Settle = 500 * time.Millisecond
	}
	if o.MetricsAddress == "" {
		o.MetricsAddress = "0" // which means none to controller-runtime
	}
	if o.Registry == nil {
		o.Registry = ctrlmetrics.Registry
	}
	if o.Logger.IsZero() {
		o.Logger = logr.Discard()
	}
	return o
}

// base is what the reconcilers share.
type base struct {
	Options
	client   client.Client // reads from the cache
	live     client.Reader // reads from the server
	pools    *pools.Pools
	events   events.EventRecorder
	versions versions
	news     news
}

// news are the pools in which this replica has freed something that no event of a claim tells of: for the claims that
// wait, and for the counts of the pools by their kind.
type news struct {
	claims chan event.GenericEvent
	pools  map[string]chan event.GenericEvent
}

func newNews() news {
	const room = 1024 // a sender waits if there is more
	n := news{make(chan event.GenericEvent, room), map[string]chan event.GenericEvent{}}
	for _, kind := range pools.Kinds {
		n.pools[kind] = make(chan event.GenericEvent, room)
	}
	return n
}

func (n news) tell(key pools.Key) {
	object := key.Object()
	n.claims <- event.GenericEvent{Object: object}
	n.pools[key.Kind] <- event.GenericEvent{Object: object}
}

// versions are the versions of Cluster API that the server serves.
type versions struct {
	ipam    string
	cluster string // empty if clusters are not served
}

// Run runs a replica until the context ends.
func Run(ctx context.Context, config *rest.Config, options Options) error {
	options = options.withDefaults()
	config = rest.CopyConfig(config)
	config.ContentType = runtime.ContentTypeJSON // the only one that custom resources have
	if config.QPS == 0 {
		config.QPS = -1 // priority and fairness on the server know better
	}
	served, err := discover(config)
	if err != nil {
		return err
	}
	manager, err := newManager(config, served, options)
	if err != nil {
		return err
	}
	store, err := kube.Open(ctx, config, &kube.Options{Namespace: options.Namespace})
	if err != nil {
		return err
	}
	defer store.Close()
	observer := metrics.New(nil)
	observer.AddStore(store)
	if err := options.Registry.Register(observer); err != nil {
		return err
	}
	defer options.Registry.Unregister(observer)
	b := &base{
		Options: options, client: manager.GetClient(), live: manager.GetAPIReader(),
		pools:  pools.In(store, &pool.Options{Observer: observer}),
		events: manager.GetEventRecorder("ipalloc"), versions: served, news: newNews(),
	}
	if err := b.setup(ctx, manager); err != nil {
		return err
	}
	return manager.Start(ctx)
}

func newManager(config *rest.Config, served versions, options Options) (ctrl.Manager, error) {
	cluster := served.cluster
	if cluster == "" {
		cluster = api.Versions[0] // of which nothing is read
	}
	o := ctrl.Options{
		Scheme:                 api.NewScheme(served.ipam, cluster),
		MapperProvider:         func(*rest.Config, *http.Client) (meta.RESTMapper, error) { return served.mapper(), nil },
		Logger:                 options.Logger,
		Metrics:                server.Options{BindAddress: options.MetricsAddress},
		HealthProbeBindAddress: options.HealthAddress,
		Cache:                  cache.Options{DefaultTransform: cache.TransformStripManagedFields()},
		Client:                 client.Options{Cache: &client.CacheOptions{Unstructured: true}},
	}
	if options.Webhook != nil {
		o.WebhookServer = webhook.NewServer(*options.Webhook)
	}
	return ctrl.NewManager(config, o)
}

// discover finds out which versions of Cluster API the server serves.
func discover(config *rest.Config) (versions, error) {
	c, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return versions{}, err
	}
	newest := func(group, resource string) (string, error) {
		named := func(r metav1.APIResource) bool { return r.Name == resource }
		for _, version := range api.Versions {
			list, err := c.ServerResourcesForGroupVersion(group + "/" + version)
			if client.IgnoreNotFound(err) != nil {
				return "", err
			}
			if err == nil && slices.ContainsFunc(list.APIResources, named) {
				return version, nil
			}
		}
		return "", nil
	}
	var served versions
	if served.cluster, err = newest(api.ClusterGroup, "clusters"); err != nil {
		return versions{}, err
	}
	if served.ipam, err = newest(api.Group, "ipaddressclaims"); err != nil {
		return versions{}, err
	}
	if served.ipam == "" {
		return versions{}, fmt.Errorf("the server serves none of the versions %v of %s; install Cluster API",
			api.Versions, api.Group)
	}
	return served, nil
}

// mapper knows the resources of the kinds that the controller uses, so that nobody has to ask for them.
func (v versions) mapper() meta.RESTMapper {
	mapper := meta.NewDefaultRESTMapper(nil)
	add := func(group, version, kind string, scope meta.RESTScope) {
		mapper.Add(schema.GroupVersionKind{Group: group, Version: version, Kind: kind}, scope)
	}
	add(api.Group, v.ipam, "IPAddressClaim", meta.RESTScopeNamespace)
	add(api.Group, v.ipam, "IPAddress", meta.RESTScopeNamespace)
	add(api.ClusterGroup, v.cluster, "Cluster", meta.RESTScopeNamespace)
	for _, kind := range pools.Kinds {
		scope := meta.RESTScopeNamespace
		if pools.Global(kind) {
			scope = meta.RESTScopeRoot
		}
		add(api.Group, api.PoolVersion, kind, scope)
	}
	return mapper
}

func (b *base) setup(ctx context.Context, manager ctrl.Manager) error {
	steps := []func() error{
		func() error { return b.index(ctx, manager.GetFieldIndexer()) },
		func() error { return newClaims(b).setup(manager) },
		func() error { return manager.AddHealthzCheck("ping", healthz.Ping) },
		func() error { return manager.AddReadyzCheck("caches", b.ready(manager.GetCache())) },
	}
	for _, kind := range pools.Kinds {
		steps = append(steps, func() error { return newKind(b, kind).setup(manager) })
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	if b.Webhook != nil {
		admission.Register(manager.GetWebhookServer(), &reader{b})
	}
	return nil
}

// ready is a probe that succeeds once the caches have what the server has.
func (b *base) ready(c cache.Cache) healthz.Checker {
	return func(r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		if !c.WaitForCacheSync(ctx) {
			return fmt.Errorf("the caches are not filled yet")
		}
		return nil
	}
}

// The indexes of the cache.
const (
	byPool    = "pool"    // addresses by their pool
	byClaim   = "claim"   // addresses by the name of their claim
	byCluster = "cluster" // claims by their cluster
	waiting   = "waiting" // claims without an address by their pool
	bySecond  = "second"  // pools by the pool that gives a second address
)

func (b *base) index(ctx context.Context, indexer client.FieldIndexer) error {
	for _, i := range []struct {
		object client.Object
		name   string
		values client.IndexerFunc
	}{
		{&api.Address{}, byPool, func(o client.Object) []string {
			return poolOf(o.(*api.Address).Spec.PoolRef, o.GetNamespace())
		}},
		{&api.Address{}, byClaim, func(o client.Object) []string { return []string{o.(*api.Address).Spec.ClaimRef.Name} }},
		{&api.Claim{}, byCluster, func(o client.Object) []string { return []string{o.(*api.Claim).Cluster()} }},
		{&api.Claim{}, waiting, func(o client.Object) []string {
			if claim := o.(*api.Claim); claim.Status.AddressRef.Name == "" && !paused(claim) {
				return poolOf(claim.Spec.PoolRef, claim.Namespace)
			}
			return nil
		}},
	} {
		if err := indexer.IndexField(ctx, i.object, i.name, i.values); err != nil {
			return err
		}
	}
	for _, kind := range pools.Kinds {
		err := indexer.IndexField(ctx, pools.New(kind), bySecond, func(o client.Object) []string {
			name, _, _ := unstructured.NestedString(o.(*unstructured.Unstructured).Object, "spec", "dualStackPool")
			return []string{name}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// poolOf is the name of a pool of this controller in an index.
func poolOf(ref api.PoolRef, namespace string) []string {
	if key, ours := pools.KeyOf(ref, namespace); ours {
		return []string{key.String()}
	}
	return nil
}

// addressesOf lists the addresses of a pool that the cache has.
func (b *base) addressesOf(ctx context.Context, key pools.Key) ([]api.Address, error) {
	var list api.AddressList
	err := b.client.List(ctx, &list, client.MatchingFields{byPool: key.String()})
	return list.Items, err
}

// resource returns the resource of a pool that the cache has.
func (b *base) resource(ctx context.Context, key pools.Key) (*unstructured.Unstructured, error) {
	object := pools.New(key.Kind)
	return object, b.client.Get(ctx, key.NamespacedName, object)
}

// paused reports whether an object is to be left alone.
func paused(object client.Object) bool {
	_, found := object.GetAnnotations()[api.PausedAnnotation]
	return found
}

func hasFinalizer(object client.Object, finalizer string) bool {
	return slices.Contains(object.GetFinalizers(), finalizer)
}
