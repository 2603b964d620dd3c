package kube

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// object is one object of the API as this package reads and writes it. It is never changed once it has been handed
// on: what changes it works on a copy.
type object struct {
	ref
	uid, version string // as the server gave them; version is its resourceVersion
	key          store.Key

	// value is the record that is kept here, or nil if there is none. While pending is set it is what that commit
	// proposes.
	value   *store.Record
	pending *pending

	// What follows is of use where the record is the head of commits.
	log    []entry // commits whose objects may still have to be settled, the oldest first; in a roll its own
	last   string  // identifier of the latest commit
	aborts int64   // counts how often a commit of a stranger was stopped; see abort

	// turn is set in a ticket, which holds no record: for which head, as ref.String returns it.
	turn string

	// wrong says which label does not fit the object, as it was read; empty if none. It is not stored.
	wrong string

	// floor is the revision of the pending commit that this object was found to have come about. It is not stored.
	floor int64
}

// ref is where an object is.
type ref struct{ resource, name string }

func (r ref) String() string { return r.resource + "/" + r.name }

// pending says that a commit wants an object to have its value, and where to look whether it has come about.
type pending struct {
	id         string // of the commit
	head       ref
	uid, fence string        // of the head's object when the commit began; once fence is another, it cannot come about
	before     *store.Record // what the object had until then; nil if nothing
}

// entry is one commit in the log of its head.
type entry struct {
	id       string
	revision int64
	objects  []ref // that may still be pending
}

// current returns the record that o has as long as its pending commit has not come about.
func (o *object) current() *store.Record {
	if o.pending != nil {
		return o.pending.before
	}
	return o.value
}

// revision returns the revision of the record that o has, 0 if none.
func (o *object) revision() int64 {
	if r := o.current(); r != nil {
		return r.Revision
	}
	return 0
}

// committed returns o as it is once its pending commit has come about with revision.
func (o *object) committed(revision int64) *object {
	next := *o
	next.pending, next.floor = nil, revision
	if o.value != nil {
		value := *o.value
		value.Revision = revision
		next.value = &value
	}
	return &next
}

// rolledBack returns o as it was before its pending commit.
func (o *object) rolledBack() *object {
	next := *o
	next.value, next.pending = o.current(), nil
	if o.isRoll() {
		next.log = nil // what it names is of the same commit, and comes to nothing by itself
	}
	return &next
}

// finds returns the revision of commit id in o's log.
func (o *object) finds(id string) (revision int64, ok bool) {
	for i := range o.log {
		if o.log[i].id == id {
			return o.log[i].revision, true
		}
	}
	return 0, false
}

// empty reports whether o holds nothing that anybody may still need.
func (o *object) empty() bool { return o.value == nil && o.pending == nil && len(o.log) == 0 }

// versionNumber returns a resourceVersion as a number: it rises with each change of any object of its resource.
func versionNumber(version string) (int64, error) {
	n, err := strconv.ParseInt(version, 10, 64)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("resourceVersion %q of the API server is not a number from 1 to 2^63-1, as revisions need it",
			version)
	}
	return n, nil
}

// The forms in which objects go over the wire. Data is text, because the API server would round its numbers.
type (
	objectJSON struct {
		APIVersion string       `json:"apiVersion"`
		Kind       string       `json:"kind"`
		Metadata   metadataJSON `json:"metadata"`
		Key        keyJSON      `json:"key"`
		Spec       *recordJSON  `json:"spec,omitempty"`
		Show       *showJSON    `json:"show,omitempty"`
		Pending    *pendingJSON `json:"pending,omitempty"`
		Log        []entryJSON  `json:"log,omitempty"`
		Last       string       `json:"last,omitempty"`
		Aborts     int64        `json:"aborts,omitempty"`
		Turn       string       `json:"turn,omitempty"`
	}
	metadataJSON struct {
		Name              string            `json:"name"`
		Namespace         string            `json:"namespace,omitempty"`
		UID               string            `json:"uid,omitempty"`
		ResourceVersion   string            `json:"resourceVersion,omitempty"`
		Labels            map[string]string `json:"labels,omitempty"`
		DeletionTimestamp string            `json:"deletionTimestamp,omitempty"`
		ManagedFields     []struct{}        `json:"managedFields,omitempty"` // only sent
	}
	keyJSON struct {
		Kind string `json:"kind"`
		Pool string `json:"pool"`
		Name string `json:"name,omitempty"`
	}
	recordJSON struct {
		Revision int64             `json:"revision,omitempty"`
		State    string            `json:"state,omitempty"`
		Prefixes []netip.Prefix    `json:"prefixes,omitempty"`
		Labels   map[string]string `json:"labels,omitempty"`
		Created  string            `json:"created,omitempty"`
		Expires  string            `json:"expires,omitempty"`
		Data     string            `json:"data,omitempty"`
	}
	pendingJSON struct {
		ID     string      `json:"id"`
		Head   string      `json:"head"`
		UID    string      `json:"uid"`
		Fence  string      `json:"fence"`
		Before *recordJSON `json:"before,omitempty"`
	}
	entryJSON struct {
		ID       string   `json:"id"`
		Revision int64    `json:"revision"`
		Objects  []string `json:"objects,omitempty"`
	}
)

// encode returns o as the API takes it. What replaces an object says, with one empty element, that the server shall not
// note which client manages which field: nobody else may write the objects, and the notes would be half of what the
// server stores, and a tenth of its work.
func (o *object) encode(namespace string) ([]byte, error) {
	wire := objectJSON{
		APIVersion: Group + "/" + Version,
		Kind:       kindOf(o.resource),
		Metadata: metadataJSON{
			Name: o.name, Namespace: namespace, UID: o.uid, ResourceVersion: o.version, Labels: o.labels(),
		},
		Key:    keyJSON{string(o.key.Kind), o.key.Pool, o.key.Name},
		Spec:   encodeRecord(o.value),
		Show:   o.show(),
		Last:   o.last,
		Aborts: o.aborts,
		Turn:   o.turn,
	}
	if o.version != "" {
		wire.Metadata.ManagedFields = make([]struct{}, 1)
	}
	if p := o.pending; p != nil {
		wire.Pending = &pendingJSON{p.id, p.head.String(), p.uid, p.fence, encodeRecord(p.before)}
	}
	for _, e := range o.log {
		names := make([]string, len(e.objects))
		for i, r := range e.objects {
			names[i] = r.String()
		}
		wire.Log = append(wire.Log, entryJSON{e.id, e.revision, names})
	}
	return json.Marshal(wire)
}

// decodeObject reads an object of resource.
func decodeObject(resource string, text []byte) (*object, error) {
	var wire objectJSON
	if err := json.Unmarshal(text, &wire); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, resource, err)
	}
	return wire.decode(resource)
}

func (wire *objectJSON) decode(resource string) (*object, error) {
	o := &object{
		ref:     ref{resource, wire.Metadata.Name},
		uid:     wire.Metadata.UID,
		version: wire.Metadata.ResourceVersion,
		key:     store.Key{Kind: store.Kind(wire.Key.Kind), Pool: wire.Key.Pool, Name: wire.Key.Name},
		last:    wire.Last,
		aborts:  wire.Aborts,
		turn:    wire.Turn,
	}
	damaged := func(err error) error { return fmt.Errorf("%w: %v: %w", ErrDamaged, o.ref, err) }
	if err := o.key.Validate(); err != nil {
		return nil, damaged(err)
	}
	var err error
	if o.value, err = wire.Spec.decode(o.key); err != nil {
		return nil, damaged(err)
	}
	if p := wire.Pending; p != nil {
		o.pending = &pending{id: p.ID, uid: p.UID, fence: p.Fence}
		if o.pending.head, err = parseRef(p.Head); err != nil {
			return nil, damaged(err)
		}
		if o.pending.before, err = p.Before.decode(o.key); err != nil {
			return nil, damaged(err)
		}
	}
	for _, e := range wire.Log {
		logged := entry{id: e.ID, revision: e.Revision}
		for _, name := range e.Objects {
			r, err := parseRef(name)
			if err != nil {
				return nil, damaged(err)
			}
			logged.objects = append(logged.objects, r)
		}
		o.log = append(o.log, logged)
	}
	o.wrong = o.wrongLabel(wire.Metadata.Labels)
	return o, nil
}

func encodeRecord(r *store.Record) *recordJSON {
	if r == nil {
		return nil
	}
	return &recordJSON{
		Revision: r.Revision,
		State:    r.State,
		Prefixes: slices.Clone(r.Prefixes),
		Labels:   maps.Clone(r.Labels),
		Created:  encodeTime(r.Created),
		Expires:  encodeTime(r.Expires),
		Data:     string(r.Data),
	}
}

func (r *recordJSON) decode(key store.Key) (*store.Record, error) {
	if r == nil {
		return nil, nil //nolint:nilnil // no record, and nothing wrong with that
	}
	record := store.Record{
		Key: key, Revision: r.Revision, State: r.State, Prefixes: r.Prefixes, Labels: r.Labels,
		Data: json.RawMessage(r.Data),
	}
	var err error
	if record.Created, err = decodeTime(r.Created); err != nil {
		return nil, err
	}
	if record.Expires, err = decodeTime(r.Expires); err != nil {
		return nil, err
	}
	if err := record.Validate(); err != nil {
		return nil, err
	}
	record = record.Canonical()
	return &record, nil
}

func encodeTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339Nano)
}

func decodeTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	return time.Parse(time.RFC3339Nano, text)
}
