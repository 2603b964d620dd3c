package durable

import (
	"context"
	"strings"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
)

func ipallocKube() Kind {
	k := Kind{
		Name: "ipalloc on Kubernetes",
		Note: "an API server for custom resources alone, on an etcd in the same process, " +
			"without a limit of requests in flight: the driver waits when a server refuses for that",
		Processes: 128, Prepare: onServer(kubeServer),
	}
	return ours(k, func(ctx context.Context, address string) (store.Store, error) {
		server, place, _ := strings.Cut(address, "/")
		return kube.Open(ctx, kubeConfig(server), &kube.Options{Namespace: place})
	})
}
