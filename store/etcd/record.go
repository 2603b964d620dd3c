package etcd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/ipalloc/ipalloc/store"
)

// document is a record as etcd keeps it. Its revision is the mod_revision of the key. The name is there for people,
// since the key has it escaped.
type document struct {
	Name     string            `json:"name,omitempty"`
	State    string            `json:"state,omitempty"`
	Prefixes []netip.Prefix    `json:"prefixes,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Created  time.Time         `json:"created,omitzero"`
	Expires  time.Time         `json:"expires,omitzero"`
	Data     json.RawMessage   `json:"data,omitempty"`
}

// encodeRecord returns the value that etcd keeps for r, a canonical record.
func encodeRecord(r store.Record) (string, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(document{r.Name, r.State, r.Prefixes, r.Labels, r.Created, r.Expires, r.Data})
	if err != nil {
		return "", fmt.Errorf("etcd: encode record %v: %w", r.Key, err)
	}
	return string(bytes.TrimSuffix(buffer.Bytes(), []byte("\n"))), nil
}

// decodeRecord returns the record under key, of which it keeps nothing of kv.
func decodeRecord(key store.Key, kv *mvccpb.KeyValue) (store.Record, error) {
	var d document
	if err := json.Unmarshal(kv.Value, &d); err != nil {
		return store.Record{}, fmt.Errorf("%w: record %v under %.200q: %w", ErrCorrupt, key, kv.Key, err)
	}
	return store.Record{
		Key: key, Revision: kv.ModRevision, State: d.State, Prefixes: d.Prefixes, Labels: d.Labels,
		Created: d.Created.UTC(), Expires: d.Expires.UTC(), Data: d.Data,
	}, nil
}

// decode is decodeRecord, and remembers what the record is indexed by.
func (s *Store) decode(key store.Key, kv *mvccpb.KeyValue) (store.Record, error) {
	record, err := decodeRecord(key, kv)
	if err == nil {
		s.known.note(record)
	}
	return record, err
}
