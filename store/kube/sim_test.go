package kube_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ipalloc/ipalloc/store/kube"
)

// simServer is an API server in memory: objects with uids and resourceVersions, guarded updates and removals, pages.
// Everything goes through the forms in which objects go over the wire.
type simServer struct {
	mu      sync.Mutex
	changed *sync.Cond
	version int64
	objects map[kube.Ref]*kube.Object
	limbo   []func() // requests on their way, whose senders have stopped waiting for them
	gone    []removal
	lists   int // pages that were asked for
}

// removal is of an object that is deleted.
type removal struct {
	version int64 // of which it is
	uid     string
}

func newSimServer() *simServer {
	s := &simServer{objects: make(map[kube.Ref]*kube.Object)}
	s.changed = sync.NewCond(&s.mu)
	return s
}

func (s *simServer) tick() string {
	s.version++
	s.changed.Broadcast()
	return fmt.Sprint(s.version)
}

// do does one request. Mu is held.
func (s *simServer) do(verb string, r kube.Ref, o *kube.Object) (*kube.Object, error) {
	old := s.objects[r]
	switch {
	case verb == "create" && old != nil:
		return nil, kube.ErrExists
	case verb == "create":
		return s.put(o, fmt.Sprint("uid-", s.version+1))
	case old == nil:
		return nil, kube.ErrAbsent
	case verb == "get":
		return old.Wire()
	}
	uid, version := old.Identity()
	if wantUID, wantVersion := o.Identity(); uid != wantUID || version != wantVersion {
		return nil, kube.ErrMoved
	}
	if verb == "remove" {
		delete(s.objects, r)
		s.tick()
		s.gone = append(s.gone, removal{s.version, uid})
		return nil, nil
	}
	return s.put(o, uid)
}

func (s *simServer) put(o *kube.Object, uid string) (*kube.Object, error) {
	stored, err := o.WithIdentity(uid, s.tick()).Wire()
	if err != nil {
		return nil, err
	}
	s.objects[o.Where()] = stored
	return stored.Wire()
}

// list returns a page of at most two objects. The token is the last name.
func (s *simServer) list(resource, selector, token string) (kube.Page, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lists++
	version := fmt.Sprint(s.version)
	var found []*kube.Object
	for r, o := range s.objects {
		if r.Resource() == resource && r.Name() > token && selects(selector, o.Labels()) {
			copied, err := o.Wire()
			if err != nil {
				return kube.Page{}, err
			}
			found = append(found, copied)
		}
	}
	slices.SortFunc(found, func(a, b *kube.Object) int { return cmp.Compare(a.Where().Name(), b.Where().Name()) })
	if len(found) <= 2 {
		return kube.NewPage(found, "", version), nil
	}
	return kube.NewPage(found[:2], found[1].Where().Name(), version), nil
}

// selects says whether a selector of the form a=b,c=d fits.
func selects(selector string, labels map[string]string) bool {
	for _, term := range strings.Split(selector, ",") {
		label, value, _ := strings.Cut(term, "=")
		if labels[label] != value {
			return false
		}
	}
	return true
}

// arrive lets a random request that is on its way take effect, if there is one.
func (s *simServer) arrive(random *rand.Rand) {
	if n := len(s.limbo); n > 0 {
		i := random.IntN(n)
		s.limbo[i]()
		s.limbo = slices.Delete(s.limbo, i, i+1)
	}
}

// land lets all requests that are on their way take effect.
func (s *simServer) land() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, late := range s.limbo {
		late()
	}
	s.limbo = nil
}

// trouble is how a request fails without an answer.
type trouble int

const (
	lostRequest trouble = iota
	lostAnswer
	lateRequest // it takes effect some time later
	troubles
)

// fail does one request that gets no answer. Mu is held.
func (s *simServer) fail(how trouble, verb string, r kube.Ref, o *kube.Object) (*kube.Object, error) {
	switch how {
	case lostAnswer:
		_, _ = s.do(verb, r, o)
	case lateRequest:
		s.limbo = append(s.limbo, func() { _, _ = s.do(verb, r, o) })
	}
	return nil, kube.ErrUnsure
}

var errCrashed = errors.New("the process has crashed")

// simClient is how one process reaches a simServer.
type simClient struct {
	server  *simServer
	mu      sync.Mutex
	random  *rand.Rand
	trouble float64         // the part of all requests that go wrong
	planned map[int]trouble // what goes wrong, by the number of the call
	calls   int             // so far
	crashAt int             // the number of the call at which the process crashes; 0 for never
	after   bool            // the call at which it crashes takes effect
	crashed bool
	slow    time.Duration // how long each call takes, of those of call
}

var _ kube.API = (*simClient)(nil)

// call does one request, or lets it go wrong.
func (c *simClient) call(ctx context.Context, verb string, r kube.Ref, o *kube.Object) (*kube.Object, error) {
	time.Sleep(c.slow)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", kube.ErrUnsure, err)
	}
	if c.crashed {
		return nil, errCrashed
	}
	c.calls++
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	if c.calls == c.crashAt {
		c.crashed = true
		if c.after {
			c.server.do(verb, r, o)
		}
		return nil, errCrashed
	}
	if how, ok := c.planned[c.calls]; ok {
		return c.server.fail(how, verb, r, o)
	}
	if c.random == nil {
		return c.server.do(verb, r, o)
	}
	if c.random.IntN(3) == 0 {
		c.server.arrive(c.random)
	}
	if c.random.Float64() >= c.trouble {
		return c.server.do(verb, r, o)
	}
	return c.server.fail(trouble(c.random.IntN(int(troubles))), verb, r, o)
}

func (c *simClient) Get(ctx context.Context, r kube.Ref) (*kube.Object, error) {
	return c.call(ctx, "get", r, nil)
}

func (c *simClient) Create(ctx context.Context, o *kube.Object) (*kube.Object, error) {
	return c.call(ctx, "create", o.Where(), o)
}

func (c *simClient) Update(ctx context.Context, o *kube.Object) (*kube.Object, error) {
	return c.call(ctx, "update", o.Where(), o)
}

func (c *simClient) Remove(ctx context.Context, o *kube.Object) error {
	_, err := c.call(ctx, "remove", o.Where(), o)
	return err
}

func (c *simClient) List(_ context.Context, resource, selector, token string) (kube.Page, error) {
	return c.server.list(resource, selector, token)
}

func (c *simClient) Watch(ctx context.Context, r kube.Ref, version string) error {
	return c.server.await(ctx, func() bool {
		now := ""
		if o := c.server.objects[r]; o != nil {
			_, now = o.Identity()
		}
		return now != version
	})
}

// Gone tells of all objects, whatever their labels: nobody knows the others.
func (c *simClient) Gone(ctx context.Context, _, _, version string, gone func(uid string) bool) error {
	seen := 0
	return c.server.await(ctx, func() bool {
		for ; seen < len(c.server.gone); seen++ {
			r := c.server.gone[seen]
			if since, err := strconv.ParseInt(version, 10, 64); err != nil || r.version > since && !gone(r.uid) {
				return true
			}
		}
		return false
	})
}

// await returns when done reports true, which it is asked each time that something has changed, with mu held.
func (s *simServer) await(ctx context.Context, done func() bool) error {
	defer context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})()
	s.mu.Lock()
	defer s.mu.Unlock()
	for ctx.Err() == nil {
		if done() {
			return nil
		}
		s.changed.Wait()
	}
	return ctx.Err()
}
