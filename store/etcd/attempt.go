package etcd

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/ipalloc/ipalloc/store"
)

// attempt sends one transaction, at most once, and knows whether it was sent.
//
// The client of etcd tries a transaction again where it is sure that nothing has happened: there was no connection, or
// the server refused it for its credentials. But it also tries again when a call ends with Canceled or DeadlineExceeded
// while its context goes on, whatever the transaction is (retry_interceptor.go). A server says so of a transaction
// under way when its own clock runs out first, and a proxy does when it gives up. Had the first one taken effect, the
// second would fail, and the commit would be said to have changed nothing. So an attempt ends the context that the
// client looks at, as soon as a call has ended in this way.
//
// gRPC itself sends again only what certainly has not been processed, which is no harm (A6-client-retries.md,
// transparent retries; the client of etcd has no retry policy in its service configuration).
type attempt struct {
	pb.KVClient
	limit int // of a request in bytes

	size int // of the request in bytes
	sent wire
}

// Txn implements [pb.KVClient].
func (a *attempt) Txn(ctx context.Context, in *pb.TxnRequest, options ...grpc.CallOption) (*pb.TxnResponse, error) {
	if a.size = proto.Size(in); a.size > a.limit {
		return nil, &store.TooLargeError{What: "commit in bytes", Size: int64(a.size), Limit: int64(a.limit)}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	once := grpc.OnFinish(func(err error) {
		if code := status.Code(err); code == codes.Canceled || code == codes.DeadlineExceeded {
			cancel()
		}
	})
	return a.KVClient.Txn(ctx, in, append(slices.Clip(options), once, grpc.PerRPCCredentials(&a.sent))...)
}

// wire notes whether a call came as far as a connection. It poses as credentials without any contents, for which gRPC
// asks when it has a connection for the call, before it writes the first byte to it. A call that waited for a
// connection in vain never asks.
type wire struct{ reached atomic.Bool }

// GetRequestMetadata implements [google.golang.org/grpc/credentials.PerRPCCredentials].
func (w *wire) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	w.reached.Store(true)
	return nil, nil
}

// RequireTransportSecurity implements [google.golang.org/grpc/credentials.PerRPCCredentials].
func (w *wire) RequireTransportSecurity() bool { return false }

// outcome is what an error says of the transaction.
type outcome int

const (
	unknown  outcome = iota // it may have taken effect, or may yet
	refused                 // it has not taken effect, and will not
	tooLarge                // refused, because it is too large
	noSpace                 // see outcome
)

// outcome tells what became of a transaction that ended with err. What is not known to be a refusal is unknown.
//
// An etcd server decides in three steps. It looks at the request: what it says then is a refusal. It proposes it to the
// cluster, which may go on with it after the server has given up waiting: so time-outs, cancellations, a lost leader
// and a server that stops leave it open, as a lost connection does. And it applies it: permissions and alarms are
// checked before, so these errors are refusals too, with one exception. When the database has just outgrown its quota,
// the transaction that notices is applied, and says "database space exceeded" all the same (quotaApplierV3 in the
// server's apply.go).
func (a *attempt) outcome(err error) outcome {
	if !a.sent.reached.Load() {
		if errors.Is(err, store.ErrTooLarge) || status.Code(err) == codes.ResourceExhausted { // the client's own limit
			return tooLarge
		}
		return refused
	}
	var said rpctypes.EtcdError
	if errors.As(err, &said) {
		return outcomeSaid(said)
	}
	switch status.Code(err) {
	case codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented: // said by a proxy
		return refused
	case codes.ResourceExhausted:
		// A message is larger than gRPC takes. If it is the request, the server has not looked at it; if it is
		// the answer, that is the one of a transaction that failed, with records in it, since success is a few bytes.
		if strings.Contains(status.Convert(err).Message(), "larger than max") {
			return tooLarge
		}
	}
	return unknown
}

// outcomeSaid is outcome for an error of an etcd server.
func outcomeSaid(err rpctypes.EtcdError) outcome {
	switch {
	case errors.Is(err, rpctypes.ErrRequestTooLarge), errors.Is(err, rpctypes.ErrTooManyOps):
		return tooLarge
	case errors.Is(err, rpctypes.ErrNoSpace):
		return noSpace
	case errors.Is(err, rpctypes.ErrTooManyRequests), errors.Is(err, rpctypes.ErrNotCapable),
		errors.Is(err, rpctypes.ErrNoLeader):
		return refused // before it was proposed, though the code is of those that leave it open
	}
	switch err.Code() {
	case codes.InvalidArgument, codes.FailedPrecondition, codes.PermissionDenied, codes.Unauthenticated, codes.DataLoss:
		return refused
	default:
		return unknown
	}
}
