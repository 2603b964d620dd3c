package durable

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	swaps  string // the resourceVersion that the last one made
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
	_, err := b.send(ctx, http.MethodPost, b.url, bareObject(owner, ""))
	return netip.AddrFrom4(addr), err
}

// Swap implements Swapper.
func (b *bareKubePlace) Swap(ctx context.Context) (err error) {
	method, url := http.MethodPost, b.url
	if b.swaps != "" {
		method, url = http.MethodPut, b.urlOf(swapOwner)
	}
	text, err := b.send(ctx, method, url, bareObject(swapOwner, b.swaps))
	if err != nil {
		return err
	}
	var stored metav1.PartialObjectMetadata
	err = json.Unmarshal(text, &stored)
	b.swaps = stored.ResourceVersion
	return err
}

// bareObject has the fields of an allocation that a person reads. If it replaces another one, the revision is that
// one's. It then differs from it: the server would not write it else.
func bareObject(owner, revision string) string {
	return fmt.Sprintf(`{"apiVersion": "%s/%s", "kind": "IPAllocation",
		"metadata": {"name": "bare.%s", "resourceVersion": "%[4]s", "labels": {"pool": "bare", "replaces": "%[4]s"}},
		"key": {"kind": "allocation", "pool": "bare", "name": "%[3]s"},
		"spec": {"prefixes": ["10.0.0.1/32"], "state": "allocated"}}`,
		kube.Group, kube.Version, strings.ReplaceAll(owner, "/", "."), revision)
}

func (b *bareKubePlace) urlOf(owner string) string {
	return b.url + "/bare." + strings.ReplaceAll(owner, "/", ".")
}

func (b *bareKubePlace) Release(ctx context.Context, owner string) error {
	_, err := b.send(ctx, http.MethodDelete, b.urlOf(owner), "")
	return err
}

func (b *bareKubePlace) send(ctx context.Context, method, url, body string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := b.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body) // to its end, so that the connection is used again
	if err == nil && answer.StatusCode >= http.StatusBadRequest {
		err = fmt.Errorf("%s %s: %s: %.200s", method, url, answer.Status, text)
	}
	return text, err
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
