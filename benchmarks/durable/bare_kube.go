package durable

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"

	"k8s.io/client-go/rest"

	"github.com/ipalloc/ipalloc/store/kube"
)

func bareKube() Kind {
	return Kind{
		Name: "bare Kubernetes", Module: "k8s.io/client-go", Floor: true, Grows: true,
		Note:    "no allocator: one object of a custom resource created, or deleted",
		Prepare: onServer(kubeServer), Open: openBareKube,
	}
}

// bareKubePlace keeps an object an allocation, and no more, as a simple controller does.
type bareKubePlace struct {
	client *http.Client
	url    string
	first  [4]byte
	calls  atomic.Uint32
}

func openBareKube(_ context.Context, address string, prefix netip.Prefix) (Pool, error) {
	server, place, _ := strings.Cut(address, "/")
	config := kubeConfig(server)
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	url := fmt.Sprintf("%s/apis/%s/%s/namespaces/%s/ipallocations", config.Host, kube.Group, kube.Version, place)
	return &bareKubePlace{client: client, url: url, first: prefix.Addr().As4()}, nil
}

// Allocate returns the number of the call as an address.
func (b *bareKubePlace) Allocate(ctx context.Context, owner string) (netip.Addr, error) {
	addr := b.first
	binary.BigEndian.PutUint32(addr[:], binary.BigEndian.Uint32(b.first[:])+b.calls.Add(1))
	return netip.AddrFrom4(addr), b.send(ctx, http.MethodPost, b.url, bareObject(owner))
}

// bareObject has the fields of an allocation that a person reads.
func bareObject(owner string) string {
	return fmt.Sprintf(`{"apiVersion": "%s/%s", "kind": "IPAllocation",
		"metadata": {"name": "bare.%s", "labels": {"pool": "bare"}},
		"key": {"kind": "allocation", "pool": "bare", "name": "%[3]s"},
		"spec": {"prefixes": ["10.0.0.1/32"], "state": "allocated"}}`,
		kube.Group, kube.Version, strings.ReplaceAll(owner, "/", "."))
}

func (b *bareKubePlace) Release(ctx context.Context, owner string) error {
	return b.send(ctx, http.MethodDelete, b.url+"/bare."+strings.ReplaceAll(owner, "/", "."), "")
}

func (b *bareKubePlace) send(ctx context.Context, method, url, body string) error {
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := b.client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body) // to its end, so that the connection is used again
	if err == nil && answer.StatusCode >= http.StatusBadRequest {
		err = fmt.Errorf("%s %s: %s: %.200s", method, url, answer.Status, text)
	}
	return err
}

// Fill creates many at once.
func (b *bareKubePlace) Fill(ctx context.Context, owners []string) error {
	const atOnce = 32
	return fillTogether(owners, atOnce, func(owner string) error {
		_, err := b.Allocate(ctx, owner)
		return err
	})
}

func (b *bareKubePlace) Close() error {
	b.client.CloseIdleConnections()
	return nil
}
