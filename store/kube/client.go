package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
)

// client is the api of a real server. No request is ever sent twice by it: what a second one answers says nothing of
// the first.
type client struct {
	rest      *rest.RESTClient
	namespace string
	pageSize  int
}

const contentType = "application/json"

func newClient(config *rest.Config, namespace string, pageSize int) (*client, error) {
	config = rest.CopyConfig(config)
	scheme := runtime.NewScheme()
	group := schema.GroupVersion{Group: Group, Version: Version}
	v1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	v1.AddToGroupVersion(scheme, group)
	config.APIPath = "/apis"
	config.GroupVersion = &group
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.ContentType, config.AcceptContentTypes = contentType, contentType
	if config.QPS == 0 && config.RateLimiter == nil {
		config.QPS = -1 // the server has its own limits, and the default is 5 requests a second
	}
	made, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, err
	}
	return &client{made, namespace, pageSize}, nil
}

func (c *client) request(verb, resource string) *rest.Request {
	return c.rest.Verb(verb).NamespaceIfScoped(c.namespace, true).Resource(resource).MaxRetries(0)
}

// do sends r and returns the body of the answer.
func (c *client) do(ctx context.Context, r *rest.Request, what string, size int) ([]byte, error) {
	result := r.Do(ctx)
	body, _ := result.Raw() // whose error is less precise
	if err := result.Error(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, translate(err, body, size))
	}
	return body, nil
}

func (c *client) Get(ctx context.Context, r ref) (*object, error) {
	body, err := c.do(ctx, c.request("GET", r.resource).Name(r.name), "get "+r.String(), 0)
	if err != nil {
		return nil, err
	}
	return decodeObject(r.resource, body)
}

func (c *client) Create(ctx context.Context, o *object) (*object, error) {
	return c.send(ctx, c.request("POST", o.resource), "create", o)
}

func (c *client) Update(ctx context.Context, o *object) (*object, error) {
	return c.send(ctx, c.request("PUT", o.resource).Name(o.name), "update", o)
}

// send sends o, and returns it with the identity that the server gives it.
func (c *client) send(ctx context.Context, r *rest.Request, verb string, o *object) (*object, error) {
	text, err := o.encode(c.namespace)
	if err != nil {
		return nil, err
	}
	body, err := c.do(ctx, r.Param("fieldValidation", "Ignore").SetHeader("Content-Type", contentType).Body(text),
		verb+" "+o.ref.String(), len(text))
	if err != nil {
		return nil, err
	}
	var answer struct{ Metadata metadataJSON }
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("%s %v: %w: the answer makes no sense: %w", verb, o.ref, errUnsure, err)
	}
	stored := *o
	stored.uid, stored.version = answer.Metadata.UID, answer.Metadata.ResourceVersion
	return &stored, nil
}

func (c *client) Remove(ctx context.Context, o *object) error {
	options, err := json.Marshal(v1.DeleteOptions{Preconditions: v1.NewRVDeletionPrecondition(o.version).Preconditions})
	if err != nil {
		return err
	}
	r := c.request("DELETE", o.resource).Name(o.name).SetHeader("Content-Type", contentType).Body(options)
	body, err := c.do(ctx, r, "delete "+o.ref.String(), 0)
	if err != nil {
		return err
	}
	var answer struct{ Metadata metadataJSON }
	if json.Unmarshal(body, &answer) == nil && answer.Metadata.DeletionTimestamp != "" {
		return fmt.Errorf("delete %v: a finalizer keeps the object, and this API's objects must have none", o.ref)
	}
	return nil
}

// listJSON is a list as it comes over the wire.
type listJSON struct {
	Metadata struct {
		ResourceVersion string `json:"resourceVersion"`
		Continue        string `json:"continue"`
	} `json:"metadata"`
	Items []objectJSON `json:"items"`
}

func (c *client) List(ctx context.Context, resource, selector, token string) (page, error) {
	r := c.request("GET", resource).Param("labelSelector", selector).Param("limit", strconv.Itoa(c.pageSize))
	if token != "" {
		r = r.Param("continue", token)
	}
	found, err := c.readList(ctx, r, "list "+resource)
	if fresh := freshToken(err); token != "" && fresh != "" {
		// The snapshot that the list began with is gone. Go on behind the last name, with what is there now.
		return c.List(ctx, resource, selector, fresh)
	}
	if err != nil {
		return page{}, err
	}
	p := page{token: found.Metadata.Continue}
	for i := range found.Items {
		o, err := found.Items[i].decode(resource)
		if err != nil {
			return page{}, err
		}
		p.objects = append(p.objects, o)
	}
	return p, nil
}

func (c *client) readList(ctx context.Context, r *rest.Request, what string) (listJSON, error) {
	var found listJSON
	body, err := c.do(ctx, r, what, 0)
	if err != nil {
		return found, err
	}
	if err := json.Unmarshal(body, &found); err != nil {
		return found, fmt.Errorf("%s: %w: %w", what, ErrDamaged, err)
	}
	return found, nil
}

func (c *client) Watch(ctx context.Context, r ref, version string) error {
	field := "metadata.name=" + r.name
	for {
		found, err := c.readList(ctx, c.request("GET", r.resource).Param("fieldSelector", field), "watch "+r.String())
		if err != nil {
			return err
		}
		now := ""
		if len(found.Items) > 0 {
			now = found.Items[0].Metadata.ResourceVersion
		}
		if now != version {
			return nil
		}
		from := c.request("GET", r.resource).Param("fieldSelector", field).Param("watch", "true").
			Param("resourceVersion", found.Metadata.ResourceVersion)
		if changed, err := c.nextEvent(ctx, from); changed || err != nil {
			return err
		}
	}
}

// nextEvent reports whether an event came before the server ended the watch.
func (c *client) nextEvent(ctx context.Context, r *rest.Request) (bool, error) {
	stream, err := r.Stream(ctx)
	if err != nil {
		return false, fmt.Errorf("watch: %w", translate(err, nil, 0))
	}
	defer stream.Close()
	var event struct {
		Type   string          `json:"type"`
		Object json.RawMessage `json:"object"`
	}
	switch err := json.NewDecoder(stream).Decode(&event); {
	case errors.Is(err, io.EOF) && ctx.Err() == nil:
		return false, nil
	case err != nil:
		return false, fmt.Errorf("watch: %w", errors.Join(ctx.Err(), err))
	case event.Type == "ERROR":
		return false, watchError(event.Object)
	}
	return true, nil
}

// watchError returns the error that ended a watch; nil if the watch must begin anew.
func watchError(status []byte) error {
	var s v1.Status
	if err := json.NewDecoder(bytes.NewReader(status)).Decode(&s); err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	if s.Reason == v1.StatusReasonExpired || s.Reason == v1.StatusReasonGone {
		return nil
	}
	return fmt.Errorf("watch: the server ended it: %s", s.Message)
}
