package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ipalloc/ipalloc/store"
)

// Errors of this package, for use with [errors.Is], beside those of package store.
var (
	// ErrDamaged is returned for an object that is not valid, because something other than this package has changed it.
	// It wraps [store.ErrDamaged].
	ErrDamaged = fmt.Errorf("object is %w", store.ErrDamaged)
	// ErrCollision is returned when the object with the name for one key holds the record of another: two keys have the
	// same hash of 160 bits, or somebody has made the object by hand.
	ErrCollision = errors.New("object belongs to another key")
	// ErrNotInstalled is returned when the API server does not know the resources; see [CRDs].
	ErrNotInstalled = errors.New("the API server does not serve " + Group + "/" + Version + "; apply the manifests")
	// ErrDefinitions is returned when the definitions on the API server are not those of this release, and the server
	// drops a field that the objects need. Apply what [CRDs] returns. If the error also wraps [store.ErrUnknown], the
	// server has stored the object without that field.
	ErrDefinitions = errors.New("the definitions on the API server are not those of this release; apply the manifests")
	// ErrForbidden is returned when the user of the config lacks a right on the API server. The message names the verb,
	// the resource and the role to bind; see [RBAC].
	ErrForbidden = errors.New("the user lacks a right")
)

// translate adds to err, which the client library returned for r, what it means here. Body is what the server answered.
func (c *client) translate(r *request, err error, body []byte) error {
	if missing := r.verb + " " + r.resource; isUnauthorized(err, r.verb) {
		return fmt.Errorf("%w: %s in the namespace %q; bind the ClusterRole %s there: %w",
			ErrForbidden, missing, c.namespace, roleFor(r.verb), err)
	}
	return translate(err, body, r.size)
}

// isUnauthorized reports whether err is a refusal by the server's authorization to do verb. Quotas and webhooks refuse
// with the same code and reason, but in other words.
func isUnauthorized(err error, verb string) bool {
	return apierrors.IsForbidden(err) && strings.Contains(err.Error(), " cannot "+verb+" ")
}

// miss remembers the error of settling something if it does not pass by itself: that the user lacks a right. Nobody
// waits for settling, so a commit that is under way says so, or the next one.
func (s *Store) miss(err error) {
	if err = lackOfRights(err); err != nil {
		s.lack.Store(&err)
	}
}

// missing returns, once, the error that miss remembers.
func (s *Store) missing() error {
	if err := s.lack.Swap(nil); err != nil {
		return *err
	}
	return nil
}

// tryRights returns an error if a right was missing lately, and still is: it settles one of the debts.
func (s *Store) tryRights(ctx context.Context, own []debt) error {
	if s.missing() == nil || len(own) == 0 {
		return nil
	}
	return lackOfRights(s.settleOnce(hasty(ctx), own[0]))
}

// lackOfRights returns err if it is one that does not pass by itself: that the user lacks a right.
func lackOfRights(err error) error {
	if errors.Is(err, ErrForbidden) {
		return err
	}
	return nil
}

// roleFor returns the role of the manifest that allows verb.
func roleFor(verb string) string {
	if verb == "get" || verb == "list" || verb == "watch" {
		return roleReader
	}
	return roleWriter
}

// translate is what err means of a request whose body had size bytes, apart from the rights of the user.
func translate(err error, body []byte, size int) error {
	var status *apierrors.StatusError
	if !errors.As(err, &status) {
		return translateTransport(err)
	}
	code := int(status.ErrStatus.Code)
	switch {
	case code == http.StatusNotFound && apierrors.HasStatusCause(err, v1.CauseTypeUnexpectedServerResponse) ||
		bytes.HasPrefix(body, []byte("404 page not found")):
		return fmt.Errorf("%w: %w", ErrNotInstalled, err)
	case code == http.StatusBadRequest && strings.Contains(status.ErrStatus.Message, "strict decoding error"):
		return fmt.Errorf("%w: %w", ErrDefinitions, err)
	case apierrors.IsNotFound(err):
		return fmt.Errorf("%w: %w", errAbsent, err)
	case apierrors.IsAlreadyExists(err):
		return fmt.Errorf("%w: %w", errExists, err)
	case apierrors.IsConflict(err):
		return fmt.Errorf("%w: %w", errMoved, err)
	case code == http.StatusRequestEntityTooLarge || saysTooLarge(status.ErrStatus.Message):
		return fmt.Errorf("%w: %w", &store.TooLargeError{What: "object in bytes", Size: int64(size)}, err)
	case code == http.StatusRequestTimeout ||
		code >= http.StatusInternalServerError && !strings.Contains(status.ErrStatus.Message, "database space exceeded"):
		return fmt.Errorf("%w: %w", errUnsure, err)
	default:
		return err
	}
}

// saysTooLarge reports whether message is what etcd, or the server's connection to it, says of a request that is too
// large. There is no code for that.
func saysTooLarge(message string) bool {
	return strings.Contains(message, "request is too large") ||
		strings.Contains(message, "trying to send message larger than max") ||
		strings.Contains(message, "received message larger than max")
}

// isPassing reports whether err is of a kind that passes: the server, or the way to it, does not work now, or has too
// much to do.
func isPassing(err error) bool {
	var dial *net.OpError
	return errors.Is(err, errUnsure) || apierrors.IsTooManyRequests(err) || errors.As(err, &dial) ||
		apierrors.IsResourceExpired(err) || apierrors.IsGone(err)
}

// translateTransport tells whether a request without an answer can have arrived.
func translateTransport(err error) error {
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return err
	}
	return fmt.Errorf("%w: %w", errUnsure, err)
}

// freshToken returns the token with which a list goes on whose own has expired; empty if err does not say so.
func freshToken(err error) string {
	var status *apierrors.StatusError
	if errors.As(err, &status) && (apierrors.IsResourceExpired(err) || apierrors.IsGone(err)) {
		return status.ErrStatus.Continue
	}
	return ""
}
