package kube

import (
	"bytes"
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
	// ErrDamaged says that an object makes no sense: somebody else has changed it.
	ErrDamaged = errors.New("object is damaged")
	// ErrCollision says that the object whose name belongs to one key holds the record of another: two keys have the
	// same hash of 160 bits, or somebody has made the object by hand.
	ErrCollision = errors.New("object belongs to another key")
	// ErrNotInstalled says that the API server does not know the resources: see [CRDs].
	ErrNotInstalled = errors.New("the API server does not serve " + Group + "/" + Version + "; apply the manifests")
)

// translate adds to err, which the client library returned for a request whose body had size bytes, what it means here.
// Body is what the server answered.
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
