package kube

import (
	"context"
	"errors"
)

// api is all that this package asks of the API server. Each call but List, Watch and Gone is one request. It is sent
// again only where the server asks for that, and where it does no harm. Its errors wrap errAbsent, errExists, errMoved
// or a [store.TooLargeError] where they apply, and errUnsure if it is not certain that a request which changes
// something will take no effect. Any other error is a refusal.
type api interface {
	// Get returns an object as it is now (a quorum read).
	Get(ctx context.Context, r ref) (*object, error)
	// Create creates an object that does not exist, and returns it as stored.
	Create(ctx context.Context, o *object) (*object, error)
	// Update replaces the object with o.uid if it is still at o.version, and returns it as stored.
	Update(ctx context.Context, o *object) (*object, error)
	// Remove deletes the object with o.uid if it is still at o.version.
	Remove(ctx context.Context, o *object) error
	// List returns a page of the objects with all labels, as they are now, in the order of their names, after token.
	List(ctx context.Context, resource string, selector string, token string) (page, error)
	// Watch returns nil as soon as the object is not at version any more; an empty version is that of an object that
	// does not exist. It may return nil early.
	Watch(ctx context.Context, r ref, version string) error
	// Gone calls gone with the uid of each object with all labels that is deleted after version, a list's, until gone
	// returns false. It may return nil early.
	Gone(ctx context.Context, resource string, selector string, version string, gone func(uid string) bool) error
}

// page is a part of a list.
type page struct {
	objects []*object
	damaged []item // objects that make no sense
	token   string // of the next page; empty if there is none
	version string // the resourceVersion of the list
}

var (
	errAbsent = errors.New("no such object")
	errExists = errors.New("the object exists")
	errMoved  = errors.New("the object has changed")
	errUnsure = errors.New("the API server did not say what became of the request")
)
