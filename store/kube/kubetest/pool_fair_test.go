package kubetest_test

import (
	"testing"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
)

func TestPoolFair(t *testing.T) {
	server, namespace := sharedServer(t), newNamespace()
	pooltest.Fair(t, func() store.Store { return open(t, server.config(writer), kube.Options{Namespace: namespace}) })
}

func TestPoolOperators(t *testing.T) {
	server, namespace := sharedServer(t), newNamespace()
	pooltest.Operators(t, func() store.Store { return open(t, server.config(writer), kube.Options{Namespace: namespace}) })
}
