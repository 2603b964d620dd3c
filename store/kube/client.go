package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"

	"github.com/ipalloc/ipalloc/store"
)

// client is the api of a real server. It sends a request a second time only if the first was refused unseen, or if to
// do it twice does no harm: otherwise what the second one answers would say nothing of the first.
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

// request is one to the API server.
type request struct {
	*rest.Request
	verb, resource string
	what           string // what it is, for errors
	size           int    // of its body in bytes
	harmless       bool   // it does no harm if it is done twice
}

// verbs are the methods of HTTP, by the verbs of the API.
var verbs = map[string]string{
	"get": "GET", "list": "GET", "watch": "GET", "create": "POST", "update": "PUT", "delete": "DELETE",
}

// request returns a request about all objects of a resource or, if name is not empty, about one of them.
func (c *client) request(verb, resource, name string) *request {
	r := c.rest.Verb(verbs[verb]).NamespaceIfScoped(c.namespace, true).Resource(resource).MaxRetries(0)
	what := verb + " " + resource
	if name != "" {
		what += "/" + name
	}
	if name != "" && verb != "create" && verb != "watch" {
		r = r.Name(name)
	}
	return &request{r, verb, resource, what, 0, verbs[verb] == "GET"}
}

// body gives r a body.
func (r *request) body(text []byte) *request {
	r.SetHeader("Content-Type", contentType).Body(text)
	r.size = len(text)
	return r
}

func (c *client) Get(ctx context.Context, r ref) (*object, error) {
	body, err := c.do(ctx, c.request("get", r.resource, r.name))
	if err != nil {
		return nil, err
	}
	item := decodeItem(r.resource, body)
	return item.object, item.err
}

func (c *client) Create(ctx context.Context, o *object) (*object, error) {
	return c.send(ctx, "create", o)
}

func (c *client) Update(ctx context.Context, o *object) (*object, error) {
	return c.send(ctx, "update", o)
}

// send sends o, and returns it with the identity that the server gives it. What is pending means nothing until its head
// lists it, and is guarded: to send it twice does no harm.
func (c *client) send(ctx context.Context, verb string, o *object) (*object, error) {
	text, err := o.encode(c.namespace)
	if err != nil {
		return nil, err
	}
	r := c.request(verb, o.resource, o.name).body(text)
	r.Param("fieldValidation", "Strict")
	r.harmless = o.pending != nil
	body, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	var answer struct{ Metadata metadataJSON }
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("%s: %w: the answer makes no sense: %w", r.what, errUnsure, err)
	}
	stored := *o
	stored.uid, stored.version = answer.Metadata.UID, answer.Metadata.ResourceVersion
	if err := c.whole(o, text, body); err != nil {
		if !c.takeBack(ctx, &stored) {
			err = fmt.Errorf("%w: %w", store.ErrUnknown, err)
		}
		return nil, fmt.Errorf("%s: %w", r.what, err)
	}
	return &stored, nil
}

func (c *client) Remove(ctx context.Context, o *object) error {
	options, err := json.Marshal(v1.DeleteOptions{Preconditions: v1.NewRVDeletionPrecondition(o.version).Preconditions})
	if err != nil {
		return err
	}
	body, err := c.do(ctx, c.request("delete", o.resource, o.name).body(options))
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
	Items []json.RawMessage `json:"items"`
}

func (c *client) List(ctx context.Context, resource, selector, token string) (page, error) {
	r := c.request("list", resource, "")
	r.Param("limit", strconv.Itoa(c.pageSize))
	if selector != "" {
		r.Param("labelSelector", selector)
	}
	if token != "" {
		r.Param("continue", token)
	}
	found, err := c.readList(ctx, r)
	if fresh := freshToken(err); token != "" && fresh != "" {
		// The snapshot that the list began with is gone. Go on behind the last name, with what is there now.
		return c.List(ctx, resource, selector, fresh)
	}
	if err != nil {
		return page{}, err
	}
	p := page{token: found.Metadata.Continue, version: found.Metadata.ResourceVersion}
	for _, text := range found.Items {
		if item := decodeItem(resource, text); item.err != nil {
			p.damaged = append(p.damaged, item)
		} else {
			p.objects = append(p.objects, item.object)
		}
	}
	return p, nil
}

func (c *client) readList(ctx context.Context, r *request) (listJSON, error) {
	var found listJSON
	body, err := c.do(ctx, r)
	if err != nil {
		return found, err
	}
	if err := json.Unmarshal(body, &found); err != nil {
		return found, fmt.Errorf("%s: %w: %w", r.what, ErrDamaged, err)
	}
	return found, nil
}

func (c *client) Watch(ctx context.Context, r ref, version string) error {
	field := "metadata.name=" + r.name
	for {
		list := c.request("list", r.resource, "")
		list.Param("fieldSelector", field)
		found, err := c.readList(ctx, list)
		if err != nil {
			return err
		}
		now, err := versionIn(found)
		if err != nil || now != version {
			return err
		}
		from := c.request("watch", r.resource, r.name)
		from.Param("fieldSelector", field).Param("watch", "true").
			Param("resourceVersion", found.Metadata.ResourceVersion)
		if changed, err := c.nextEvent(ctx, from); changed || err != nil {
			return err
		}
	}
}

// versionIn returns the resourceVersion of the object that a list of at most one has; empty if there is none.
func versionIn(found listJSON) (string, error) {
	if len(found.Items) == 0 {
		return "", nil
	}
	var o struct{ Metadata metadataJSON }
	if err := json.Unmarshal(found.Items[0], &o); err != nil {
		return "", fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return o.Metadata.ResourceVersion, nil
}

func (c *client) Gone(
	ctx context.Context, resource, selector, version string, gone func(uid string) bool,
) error {
	r := c.request("watch", resource, "")
	r.Param("labelSelector", selector).Param("watch", "true").Param("resourceVersion", version)
	return c.events(ctx, r, func(e event) (bool, error) {
		if e.Type != "DELETED" {
			return true, nil
		}
		var o struct{ Metadata metadataJSON }
		if err := json.Unmarshal(e.Object, &o); err != nil {
			return false, fmt.Errorf("%s: %w: %w", r.what, ErrDamaged, err)
		}
		return gone(o.Metadata.UID), nil
	})
}

// event is one of a watch.
type event struct {
	Type   string          `json:"type"`
	Object json.RawMessage `json:"object"`
}

// nextEvent reports whether an event came before the server ended the watch.
func (c *client) nextEvent(ctx context.Context, r *request) (came bool, err error) {
	err = c.events(ctx, r, func(event) (bool, error) {
		came = true
		return false, nil
	})
	return came, err
}

// events gives the events of a watch to take, until take returns false or an error, or the server ends the watch.
func (c *client) events(ctx context.Context, r *request, take func(event) (bool, error)) error {
	stream, err := r.Stream(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", r.what, c.translate(r, err, nil))
	}
	defer stream.Close()
	for decoder := json.NewDecoder(stream); ; {
		var e event
		switch err := decoder.Decode(&e); {
		case errors.Is(err, io.EOF) && ctx.Err() == nil:
			return nil
		case isNonsense(err):
			return fmt.Errorf("%s: %w: %w", r.what, ErrDamaged, err)
		case err != nil:
			return fmt.Errorf("%s: %w: %w", r.what, errUnsure, errors.Join(ctx.Err(), err))
		case e.Type == "ERROR":
			if err := watchError(e.Object); err != nil {
				return fmt.Errorf("%s: the server ended it: %w", r.what, err)
			}
			return nil
		}
		if more, err := take(e); err != nil || !more {
			return err
		}
	}
}

// isNonsense reports whether err is of a text that is not what it should be, and not of a connection that was cut.
func isNonsense(err error) bool {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	return errors.As(err, &syntax) || errors.As(err, &kind)
}

// watchError returns the error that ended a watch; nil if the watch must begin anew.
func watchError(status []byte) error {
	var s v1.Status
	if err := json.Unmarshal(status, &s); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if s.Reason == v1.StatusReasonExpired || s.Reason == v1.StatusReasonGone {
		return nil
	}
	return translate(&apierrors.StatusError{ErrStatus: s}, nil, 0)
}

// version asks the server for its version.
func (c *client) version(ctx context.Context) (string, error) {
	body, err := c.rest.Get().AbsPath("/version").MaxRetries(0).Do(ctx).Raw()
	var is struct {
		GitVersion string `json:"gitVersion"`
	}
	if err == nil {
		err = json.Unmarshal(body, &is)
	}
	return is.GitVersion, err
}
