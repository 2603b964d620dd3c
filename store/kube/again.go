package kube

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// When a server is asked again. It refuses a request with 429 before it looks at it, so that the request may be sent
// again as it is. After a 503 it is not certain what became of the request: only what does no harm a second time is
// sent again.

// defaultWait is how long to wait after a 429 that does not say how long.
const defaultWait = time.Second

// hastyKey marks the context of requests that do not wait.
type hastyKey struct{}

// hasty returns ctx for work that can be left for later: where the server asks for a wait, such work is not done.
func hasty(ctx context.Context) context.Context { return context.WithValue(ctx, hastyKey{}, true) }

// askedToWait returns how long the server wants the client to wait, by the error of a request; 0 if it says nothing.
func askedToWait(err error) time.Duration {
	var status *apierrors.StatusError
	if !errors.As(err, &status) {
		return 0
	}
	code := status.ErrStatus.Code
	if code != http.StatusTooManyRequests && code != http.StatusServiceUnavailable {
		return 0
	}
	if details := status.ErrStatus.Details; details != nil && details.RetryAfterSeconds > 0 {
		return time.Duration(details.RetryAfterSeconds) * time.Second
	}
	if code == http.StatusTooManyRequests {
		return defaultWait
	}
	return 0
}

// waitFor waits as long as the server asks for, and a little more, so that not all clients come back at once. It
// reports whether it did: not if ctx ends before that time or if ctx is hasty.
func waitFor(ctx context.Context, d time.Duration) bool {
	if ctx.Value(hastyKey{}) != nil {
		return false
	}
	end, ok := ctx.Deadline()
	if ok && time.Until(end) < d { //nolint:forbidigo // contexts go by the real clock
		return false
	}
	return wait(ctx, d+rand.N(d/8+1)) == nil
}

// mayRepeat reports whether r may be sent again after err.
func (r *request) mayRepeat(err error) bool { return apierrors.IsTooManyRequests(err) || r.harmless }

// do sends r and returns the body of the answer. It sends r again where the server asks for that, see [Store].
func (c *client) do(ctx context.Context, r *request) ([]byte, error) {
	unsure := false
	for {
		result := r.Do(ctx)
		body, rough := result.Raw() // an error that is less precise, but knows the header Retry-After
		err := result.Error()
		if err == nil {
			return body, nil
		}
		wait := max(askedToWait(rough), askedToWait(err))
		err = c.translate(r, err, body)
		if wait > 0 && waitFor(ctx, wait) && r.mayRepeat(err) {
			unsure = unsure || errors.Is(err, errUnsure)
			continue
		}
		if unsure && !errors.Is(err, errUnsure) {
			err = fmt.Errorf("%w: %w", errUnsure, err) // of an earlier time
		}
		return nil, fmt.Errorf("%s: %w", r.what, err)
	}
}
