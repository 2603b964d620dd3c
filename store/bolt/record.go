package bolt

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// document is a record as the file keeps it, under the record's key. The revision comes first, see revisionOf.
type document struct {
	Revision int64             `json:"revision"`
	State    string            `json:"state,omitempty"`
	Prefixes []netip.Prefix    `json:"prefixes,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Created  time.Time         `json:"created,omitzero"`
	Expires  time.Time         `json:"expires,omitzero"`
	Data     json.RawMessage   `json:"data,omitempty"`
}

// encodeKey returns the key under which the file keeps the record.
func encodeKey(key store.Key) []byte {
	text := make([]byte, 0, len(key.Kind)+len(key.Pool)+len(key.Name)+2)
	text = append(text, key.Kind...)
	text = append(text, 0)
	text = append(text, key.Pool...)
	text = append(text, 0)
	return append(text, key.Name...)
}

// encodeListPrefix returns what the keys of all records of the kind begin with, of those in pool if it is not
// empty.
func encodeListPrefix(kind store.Kind, pool string) []byte {
	text := append([]byte(kind), 0)
	if pool != "" {
		text = append(append(text, pool...), 0)
	}
	return text
}

func decodeKey(text []byte) (store.Key, error) {
	parts := strings.Split(string(text), "\x00")
	if len(parts) != 3 {
		return store.Key{}, fmt.Errorf("%w: the key %.80q has not three parts", ErrCorrupt, text)
	}
	return store.Key{Kind: store.Kind(parts[0]), Pool: parts[1], Name: parts[2]}, nil
}

// encodeRecord returns the value that the file keeps for r, a canonical record.
func encodeRecord(r store.Record) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(document{r.Revision, r.State, r.Prefixes, r.Labels, r.Created, r.Expires, r.Data})
	if err != nil {
		return nil, fmt.Errorf("encode record %v: %w", r.Key, err)
	}
	return bytes.TrimSuffix(buffer.Bytes(), []byte("\n")), nil
}

// decodeRecord returns the record under key, of which it keeps nothing of value.
func decodeRecord(key store.Key, value []byte) (store.Record, error) {
	var d document
	if err := json.Unmarshal(value, &d); err != nil {
		return store.Record{}, fmt.Errorf("%w: record %v: %w", ErrCorrupt, key, err)
	}
	return store.Record{
		Key: key, Revision: d.Revision, State: d.State, Prefixes: d.Prefixes, Labels: d.Labels,
		Created: d.Created.UTC(), Expires: d.Expires.UTC(), Data: d.Data,
	}, nil
}

// revisionOf returns the revision in a record's value, 0 if value is nil. It reads the beginning only, since
// the head of a pool may be large and is looked at in each commit.
func revisionOf(key store.Key, value []byte) (revision int64, err error) {
	if value == nil {
		return 0, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(value))
	for _, want := range []json.Token{json.Delim('{'), "revision"} {
		if token, err := decoder.Token(); err != nil || token != want {
			return 0, fmt.Errorf("%w: record %v begins with %.40q, want its revision", ErrCorrupt, key, value)
		}
	}
	if err := decoder.Decode(&revision); err != nil {
		return 0, fmt.Errorf("%w: record %v: its revision: %w", ErrCorrupt, key, err)
	}
	return revision, nil
}
