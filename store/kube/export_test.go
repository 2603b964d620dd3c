package kube

import (
	"cmp"
	"context"
	"slices"
	"time"

	"k8s.io/client-go/rest"
)

// What the tests of this package see of its inside: the API that a handle uses, so that a simulated server can take its
// place.
type (
	API    = api
	Object = object
	Ref    = ref
	Page   = page
)

var (
	ErrAbsent = errAbsent
	ErrExists = errExists
	ErrMoved  = errMoved
	ErrUnsure = errUnsure
)

// NewStore returns a handle on a. All that is random or takes time in it comes from newID and pause.
func NewStore(a API, opts Options, newID func() string, pause func(context.Context, time.Duration) error) *Store {
	s := newStore(a, opts.withDefaults())
	s.newID, s.pause, s.tails.still, s.maxTurn = newID, pause, true, 20*time.Millisecond
	s.rollFrom, s.ledger.later = 2, 2 // so that short runs have rolls, and settle them in each way
	return s
}

// NewLively is NewStore for a handle that settles in the background what its commits have left, as a real one does.
func NewLively(a API, opts Options, newID func() string) *Store {
	s := newStore(a, opts.withDefaults())
	s.newID = newID
	return s
}

// Tidy does what a handle from NewStore leaves undone in the background, in the caller's goroutine.
func Tidy(ctx context.Context, s *Store) error {
	s.tails.mu.Lock()
	heads := make([]ref, 0, len(s.tails.heads))
	for head := range s.tails.heads {
		heads = append(heads, head)
	}
	s.tails.mu.Unlock()
	slices.SortFunc(heads, func(a, b ref) int { return cmp.Compare(a.String(), b.String()) })
	for _, head := range heads {
		if err := s.tidy(ctx, head); err != nil {
			return err
		}
		s.leave(head)
	}
	return nil
}

// LabelName and LabelText return the name and the value of an object's label for those of an allocation's label.
func LabelName(name string) string { return labelName(name) }
func LabelText(text string) string { return labelText(text) }

// Where says where o is, and Labels with which labels.
func (o *Object) Where() Ref { return o.ref }

// Labels returns the labels of o.
func (o *Object) Labels() map[string]string { return o.labels() }

// Resource returns the resource of r.
func (r Ref) Resource() string { return r.resource }

// Name returns the object's name in r.
func (r Ref) Name() string { return r.name }

// UID returns the uid and the resourceVersion of o.
func (o *Object) Identity() (uid, version string) { return o.uid, o.version }

// Turn returns the head for which o is a ticket; empty if it is none.
func (o *Object) Turn() string { return o.turn }

// WithIdentity returns o with another identity.
func (o *Object) WithIdentity(uid, version string) *Object {
	next := *o
	next.uid, next.version = uid, version
	return &next
}

// Wire returns o as it would come back from a server.
func (o *Object) Wire() (*Object, error) {
	text, err := o.encode("ns")
	if err != nil {
		return nil, err
	}
	return decodeObject(o.resource, text)
}

// NewPage returns a page of a list.
func NewPage(objects []*Object, token, version string) Page {
	return Page{objects: objects, token: token, version: version}
}

// PageOf returns the parts of a page.
func PageOf(p Page) (objects []*Object, token string) { return p.objects, p.token }

// RefOf and LabelValue are how keys become names and labels.
var (
	RefOf      = refOf
	LabelValue = labelValue
	ParseRef   = parseRef
)

// Pending reports whether a commit that is under way wants o to have its value.
func (o *Object) Pending() bool { return o.pending != nil }

// Decided returns o as if that commit had come about.
func (o *Object) Decided() *Object { return o.committed(max(1, o.revision()+1)) }

// WithClock returns s with another clock.
func WithClock(s *Store, now func() time.Time, maxTurn time.Duration) *Store {
	s.now, s.maxTurn = now, maxTurn
	return s
}

// OneLine reports whether the callers of handles with these configs stand in one line, in one namespace.
func OneLine(a, b *rest.Config) bool { return lobbyOf(a, "ns") == lobbyOf(b, "ns") }

// OneProcess lets the callers of handles stand in one line, as those of one process do.
func OneProcess(handles ...*Store) {
	for _, s := range handles {
		s.lobby = handles[0].lobby
	}
}

// WithoutRolls returns s so that the log of a head names whatever its commits write, however much that is.
func WithoutRolls(s *Store) *Store {
	s.rollFrom = 1 << 30
	return s
}

// What is settled later, and how fast what strangers left is settled.
const (
	RollFrom         = rollFrom
	MaxLater         = maxLater
	PatientWithRolls = patientWithRolls
	Handful          = handful
)

// IsRoll reports whether o names what a commit wrote.
func (o *Object) IsRoll() bool { return o.isRoll() }

// WithoutNames returns o without its log.
func (o *Object) WithoutNames() *Object {
	next := *o
	next.log = nil
	return &next
}
