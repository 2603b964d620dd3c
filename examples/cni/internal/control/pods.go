package control

import (
	"context"
	"encoding/json"
	"errors"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"

	"github.com/ipalloc/ipalloc/examples/cni/internal/netpools"
	"github.com/ipalloc/ipalloc/pool"
)

// pods is a source that asks the Kubernetes API for the pods of the cluster.
type pods struct{ client rest.Interface }

func newPods(config *rest.Config) (*pods, error) {
	config = rest.CopyConfig(config)
	config.NegotiatedSerializer = serializer.NewCodecFactory(runtime.NewScheme()).WithoutConversion()
	client, err := rest.UnversionedRESTClientFor(config)
	return &pods{client}, err
}

func (p *pods) about(bool) {}

func (p *pods) again() bool { return true }

// covers reports whether a pod made the allocation.
func (p *pods) covers(a pool.Allocation) bool { return a.Labels[netpools.LabelPodName] != "" }

// podKey is a pod. The name and the namespace are apart: no text is made of both that could be read in two ways.
type podKey struct{ namespace, name string }

// itemList is what is read of the answer of the API server.
type itemList struct {
	Metadata struct{ Continue string }
	Items    []item
}

// item is a pod or a node.
type item struct {
	Metadata struct{ Namespace, Name, UID string }
	Status   struct{ Phase string }
}

// errNoPods is returned if the API server lists no pods at all.
var errNoPods = errors.New("the API server lists no pods, not even this one: nothing is freed")

// read lists all pods. A pod that has ended does not exist any more for its addresses.
func (p *pods) read(ctx context.Context) (func(pool.Allocation) bool, error) {
	uids := map[podKey]string{}
	err := p.list(ctx, "/api/v1/pods", func(pod item) {
		if pod.Status.Phase != "Succeeded" && pod.Status.Phase != "Failed" {
			uids[podKey{pod.Metadata.Namespace, pod.Metadata.Name}] = pod.Metadata.UID
		}
	})
	if err != nil {
		return nil, err
	}
	if len(uids) == 0 {
		return nil, errNoPods
	}
	return func(a pool.Allocation) bool {
		uid, found := uids[podKey{a.Labels[netpools.LabelPodNamespace], a.Labels[netpools.LabelPodName]}]
		recorded := a.Labels[netpools.LabelPodUID]
		return found && (recorded == "" || recorded == uid)
	}, nil
}

// list calls do with all objects of the list at the path.
func (p *pods) list(ctx context.Context, path string, do func(item)) error {
	for next := ""; ; {
		list, err := p.page(ctx, path, next)
		if err != nil {
			return err
		}
		for _, each := range list.Items {
			do(each)
		}
		if next = list.Metadata.Continue; next == "" {
			return nil
		}
	}
}

// page reads one page of a list.
func (p *pods) page(ctx context.Context, path, next string) (itemList, error) {
	var list itemList
	request := p.client.Get().AbsPath(path).Param("limit", "500")
	if next != "" {
		request = request.Param("continue", next)
	}
	text, err := request.SetHeader("Accept", "application/json").DoRaw(ctx)
	if err != nil {
		return list, err
	}
	return list, json.Unmarshal(text, &list)
}
