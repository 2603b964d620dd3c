// Package pools keeps the pools of custom resources in a store: it reads the resources, adopts the addresses that exist
// when it makes a pool, and gives the pool each spec once, in the order of the generations of the resource.
package pools

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"sync"

	"go4.org/netipx"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/config/clusterapi"
	"github.com/ipalloc/ipalloc/examples/clusterapi/internal/api"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// Kinds are the kinds of pools.
var Kinds = []string{
	clusterapi.KindNamespaced, clusterapi.KindGlobal, clusterapi.KindPrefix, clusterapi.KindGlobalPrefix,
}

// The labels of a pool in the store: which resource it has been made for, and the generation of its spec.
const (
	labelUID        = "uid"
	labelGeneration = "generation"
)

// New returns an object of a kind of pools, or a list of such objects if the kind ends in List.
func New(kind string) *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(schema.GroupVersionKind{Group: api.Group, Version: api.PoolVersion, Kind: kind})
	return object
}

// Global reports whether pools of the kind are for the claims of all namespaces.
func Global(kind string) bool {
	return kind == clusterapi.KindGlobal || kind == clusterapi.KindGlobalPrefix
}

// Prefixes reports whether pools of the kind hand out prefixes.
func Prefixes(kind string) bool {
	return kind == clusterapi.KindPrefix || kind == clusterapi.KindGlobalPrefix
}

// Key names a pool.
type Key struct {
	Kind string
	types.NamespacedName
}

// KeyOf returns the key of the pool that a claim in the namespace refers to. It reports false for a pool of another
// controller.
func KeyOf(ref api.PoolRef, namespace string) (Key, bool) {
	if ref.APIGroup != api.Group {
		return Key{}, false
	}
	for _, kind := range Kinds {
		if kind != ref.Kind {
			continue
		}
		if Global(kind) {
			namespace = ""
		}
		return Key{kind, types.NamespacedName{Namespace: namespace, Name: ref.Name}}, true
	}
	return Key{}, false
}

// Ref is how an object in the namespace of the pool refers to it.
func (k Key) Ref() api.PoolRef { return api.PoolRef{APIGroup: api.Group, Kind: k.Kind, Name: k.Name} }

// Object is the resource of the pool, of which only the name is known.
func (k Key) Object() *unstructured.Unstructured {
	object := New(k.Kind)
	object.SetNamespace(k.Namespace)
	object.SetName(k.Name)
	return object
}

// Sibling returns the key of another pool of the kind and the namespace.
func (k Key) Sibling(name string) Key {
	k.Name = name
	return k
}

// String returns the name of the pool in the store.
func (k Key) String() string {
	return clusterapi.Pool{Kind: k.Kind, Namespace: k.Namespace, Name: k.Name}.StoreName()
}

// Pool is a pool as its resource describes it.
type Pool struct {
	clusterapi.Pool
	UID        types.UID
	Generation int64
}

// Read reads the resource of a pool. The error joins a [*config.FieldError] for each fault.
//
// [*config.FieldError]: https://pkg.go.dev/github.com/ipalloc/ipalloc/config#FieldError
func Read(object *unstructured.Unstructured) (Pool, error) {
	text, err := json.Marshal(object)
	if err != nil {
		return Pool{}, err
	}
	read, err := clusterapi.Parse(text)
	if err != nil {
		return Pool{}, err
	}
	p := Pool{read[0], object.GetUID(), object.GetGeneration()}
	p.Spec.Scope = p.Namespace
	if p.Spec.Network == "" {
		p.Spec.Exclude = append(append([]netipx.IPRange(nil), p.Spec.Exclude...), p.External...)
	}
	p.Spec.Labels = map[string]string{
		labelUID: string(p.UID), labelGeneration: strconv.FormatInt(p.Generation, 10),
	}
	return p, nil
}

// Family is the family of the pool.
func (p Pool) Family() pool.Family { return p.Spec.AllFamilies()[0] }

// Length is the length, in bits, of what the pool hands out.
func (p Pool) Length() int { return p.Spec.Bits(p.Family()) }

// Pools are the pools in a store. It keeps their handles, and what was read of their resources. Its methods may be
// called by any number of goroutines at once.
type Pools struct {
	store   store.Store
	options *pool.Options

	mu      sync.Mutex
	handles map[Key]*pool.Pool
	read    map[Key]Pool
	// external is what this process has last declared to be external in each network.
	external map[string]*netipx.IPSet
}

// In returns the pools in the store.
func In(s store.Store, options *pool.Options) *Pools {
	return &Pools{
		store: s, options: options, handles: map[Key]*pool.Pool{}, read: map[Key]Pool{},
		external: map[string]*netipx.IPSet{},
	}
}

// Read is the function Read, which reads each generation of a resource once.
func (p *Pools) Read(object *unstructured.Unstructured) (Pool, error) {
	key := Key{object.GetKind(), types.NamespacedName{Namespace: object.GetNamespace(), Name: object.GetName()}}
	p.mu.Lock()
	known := p.read[key]
	p.mu.Unlock()
	if known.UID == object.GetUID() && known.Generation == object.GetGeneration() && known.Generation != 0 {
		return known, nil
	}
	read, err := Read(object)
	if err == nil {
		p.mu.Lock()
		p.read[key] = read
		p.mu.Unlock()
	}
	return read, err
}

// Open returns the handle of a pool.
func (p *Pools) Open(ctx context.Context, key Key) (*pool.Pool, error) {
	p.mu.Lock()
	known := p.handles[key]
	p.mu.Unlock()
	if known != nil {
		return known, nil
	}
	opened, err := pool.Open(ctx, p.store, key.String(), p.options)
	if err != nil {
		return nil, err
	}
	return p.keep(key, opened), nil
}

// keep keeps the first handle of a pool, for calls share commits only if they share the handle.
func (p *Pools) keep(key Key, opened *pool.Pool) *pool.Pool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if known := p.handles[key]; known != nil {
		return known
	}
	p.handles[key] = opened
	return opened
}

// Forget drops the handle of a pool that no longer exists.
func (p *Pools) Forget(key Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.handles, key)
	delete(p.read, key)
}

// Ensure makes the pool, with what is held already, or gives it the spec of the resource, unless it has that of a
// newer generation. held is called only if the pool does not exist.
func (p *Pools) Ensure(
	ctx context.Context, key Key, want Pool, held func(context.Context) ([]pool.Allocation, error),
) (*pool.Pool, error) {
	opened, err := p.Open(ctx, key)
	switch {
	case err == nil:
		err = update(ctx, opened, want)
	case errors.Is(err, pool.ErrNoPool), errors.Is(err, pool.ErrUnfinished):
		return p.create(ctx, key, want, held)
	}
	if errors.Is(err, pool.ErrNoPool) {
		p.Forget(key)
	}
	return opened, err
}

// create makes the pool together with what is held already, in one commit: nobody gets an address of it before.
func (p *Pools) create(
	ctx context.Context, key Key, want Pool, held func(context.Context) ([]pool.Allocation, error),
) (*pool.Pool, error) {
	allocations, err := held(ctx)
	if err != nil {
		return nil, err
	}
	snapshot := pool.Snapshot{Info: pool.Info{Spec: want.Spec}, Allocations: allocations}
	made, err := pool.Import(ctx, p.store, key.String(), snapshot, p.options)
	switch {
	case errors.Is(err, pool.ErrExists): // another replica was faster
		return p.Open(ctx, key)
	case errors.Is(err, pool.ErrOrphaned):
		made, err = pool.Recover(ctx, p.store, key.String(), want.Spec, p.options)
	}
	if err != nil {
		return nil, err
	}
	return p.keep(key, made), nil
}

// update gives the pool the spec. A replica may see the resource late: it must not undo what another one did.
func update(ctx context.Context, opened *pool.Pool, want Pool) error {
	var older bool
	err := opened.UpdateFunc(ctx, func(present pool.Spec) (pool.Spec, error) {
		older = want.before(present)
		if older {
			return present, nil
		}
		return want.Spec, nil
	})
	if errors.Is(err, pool.ErrOutOfRange) && want.Drain && !older {
		return opened.Drain(ctx, want.Spec)
	}
	return err
}

// before reports whether the pool has the spec of this generation or a later one already.
func (p Pool) before(present pool.Spec) bool {
	generation, err := strconv.ParseInt(present.Labels[labelGeneration], 10, 64)
	return err == nil && present.Labels[labelUID] == string(p.UID) && generation >= p.Generation
}

// Delete deletes the pool; [pool.ErrInUse] if any of its addresses is held.
func (p *Pools) Delete(ctx context.Context, key Key) error {
	err := pool.Delete(ctx, p.store, key.String(), p.options)
	if err == nil || errors.Is(err, pool.ErrNoPool) {
		p.Forget(key)
		return nil
	}
	return err
}

// Counts are how many addresses or prefixes a pool has.
type Counts struct {
	Total, Free, Used, OutOfRange, Cooling int64
}

// Map returns the counts as they stand in the status of a resource.
func (c Counts) Map() map[string]any {
	return map[string]any{
		"total": c.Total, "free": c.Free, "used": c.Used, "outOfRange": c.OutOfRange, "cooling": c.Cooling,
	}
}

// Count counts what the pool hands out, in the units that the resource describes. Larger numbers than an int64 holds
// are the largest int64.
func (p Pool) Count(ctx context.Context, opened *pool.Pool) (Counts, error) {
	info, err := opened.Info(ctx)
	if err != nil {
		return Counts{}, err
	}
	stats, unit := info.StatsOf(p.Family()), p.Family().Width()-p.Length()
	used, inRange, cooling := cidr.CountOf(uint64(info.Holders)), stats.Used.Rsh(unit), stats.Cooling.Rsh(unit)
	free := stats.Free
	if unit > 0 { // a free address need not be in a free prefix
		if free, err = opened.CountFree(ctx, p.Family(), p.Length()); err != nil {
			return Counts{}, err
		}
	}
	return Counts{
		Total: saturated(free.Add(inRange).Add(cooling)), Free: saturated(free), Used: saturated(used),
		OutOfRange: saturated(used.Sub(inRange)), Cooling: saturated(cooling),
	}, nil
}

func saturated(n cidr.Count) int64 {
	if n.BitLen() > 63 {
		return math.MaxInt64
	}
	return int64(n.Uint64())
}

// SetExternal declares what is external in a network, if this process has not just done so.
func (p *Pools) SetExternal(ctx context.Context, network string, external []netipx.IPRange, drain bool) error {
	set := cidr.SetOf(external...)
	p.mu.Lock()
	known := p.external[network]
	p.mu.Unlock()
	if known != nil && known.Equal(set) {
		return nil
	}
	err := pool.SetExternal(ctx, p.store, network, set.Ranges(), drain, p.options)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.external[network] = set
	return nil
}
