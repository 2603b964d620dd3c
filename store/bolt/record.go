package bolt

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
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
	return appendKey(make([]byte, 0, len(key.Kind)+len(key.Pool)+len(key.Name)+2), key)
}

// appendKey appends what encodeKey returns.
func appendKey(b []byte, key store.Key) []byte {
	b = append(append(b, key.Kind...), 0)
	b = append(append(b, key.Pool...), 0)
	return append(b, key.Name...)
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

// decodeKeyOf is decodeKey for a key that is probably of the kind and the pool, whose text it then shares.
func decodeKeyOf(kind store.Kind, pool string, text []byte) (store.Key, error) {
	inKind, rest, _ := bytes.Cut(text, []byte{0})
	inPool, name, ok := bytes.Cut(rest, []byte{0})
	if ok && string(inKind) == string(kind) && string(inPool) == pool && bytes.IndexByte(name, 0) < 0 {
		return store.Key{Kind: kind, Pool: pool, Name: string(name)}, nil
	}
	return decodeKey(text)
}

// The members of a document as they stand in its text.
const (
	revisionMember = `{"revision":`
	stateMember    = `,"state":"`
	prefixesMember = `,"prefixes":["`
	createdMember  = `,"created":"`
	expiresMember  = `,"expires":"`
	dataMember     = `,"data":`
)

// mostCommonState is that of nearly all records of a pool.
const mostCommonState = "allocated"

// encodeRecord returns the value that the file keeps for r, a valid canonical record. It is what package json makes of
// the document; most records are so simple that it is made here.
func encodeRecord(r store.Record) ([]byte, error) {
	if len(r.Labels) > 0 || len(r.Data) > 0 || !isPlain(r.State) {
		return encodeAny(r)
	}
	b := append(make([]byte, 0, 128), revisionMember...)
	b = strconv.AppendInt(b, r.Revision, 10)
	if r.State != "" {
		b = append(append(append(b, stateMember...), r.State...), '"')
	}
	for i, p := range r.Prefixes {
		if i == 0 {
			b = append(b, prefixesMember...)
		} else {
			b = append(b, `,"`...)
		}
		b = append(p.AppendTo(b), '"')
	}
	if len(r.Prefixes) > 0 {
		b = append(b, ']')
	}
	b = appendTime(b, createdMember, r.Created)
	return append(appendTime(b, expiresMember, r.Expires), '}'), nil
}

func appendTime(b []byte, member string, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	return append(t.AppendFormat(append(b, member...), time.RFC3339Nano), '"')
}

// isPlain reports whether text is the same in JSON.
func isPlain(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// encodeAny is encodeRecord for any record.
func encodeAny(r store.Record) ([]byte, error) {
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
	if r, ok := decodeSimple(key, value); ok {
		return r, nil
	}
	return decodeAny(key, value)
}

// decodeAny is decodeRecord for any value.
func decodeAny(key store.Key, value []byte) (store.Record, error) {
	var d document
	if err := json.Unmarshal(value, &d); err != nil {
		return store.Record{}, fmt.Errorf("%w: record %v: %w", ErrCorrupt, key, err)
	}
	return store.Record{
		Key: key, Revision: d.Revision, State: d.State, Prefixes: d.Prefixes, Labels: d.Labels,
		Created: d.Created.UTC(), Expires: d.Expires.UTC(), Data: d.Data,
	}, nil
}

// decodeSimple returns the record that package json would read, if the value is as encodeRecord writes it and has no
// labels.
func decodeSimple(key store.Key, value []byte) (r store.Record, ok bool) {
	in := scanner{rest: value}
	r.Key, r.Revision = key, in.number(revisionMember)
	r.State = in.text(stateMember)
	for member := prefixesMember; !in.failed && in.has(member); member = `,"` {
		in.rest = in.rest[len(member):]
		r.Prefixes = append(r.Prefixes, in.prefix())
	}
	if len(r.Prefixes) > 0 {
		in.skip("]")
	}
	r.Created, r.Expires = in.time(createdMember), in.time(expiresMember)
	if in.has(dataMember) {
		data := in.rest[len(dataMember) : max(len(in.rest), len(dataMember)+1)-1]
		in.failed = in.failed || !json.Valid(data) || data[0] == ' ' || string(data) == "null"
		r.Data, in.rest = bytes.Clone(data), in.rest[len(dataMember)+len(data):]
	}
	in.skip("}")
	return r, !in.failed && len(in.rest) == 0
}

// scanner reads a value from its beginning on. After it has failed, nothing that it returns counts.
type scanner struct {
	rest   []byte
	failed bool
}

func (s *scanner) has(text string) bool {
	return len(s.rest) >= len(text) && string(s.rest[:len(text)]) == text
}

func (s *scanner) skip(text string) {
	if s.failed = s.failed || !s.has(text); !s.failed {
		s.rest = s.rest[len(text):]
	}
}

func (s *scanner) number(member string) int64 {
	s.skip(member)
	end := 0
	for end < len(s.rest) && s.rest[end] >= '0' && s.rest[end] <= '9' {
		end++
	}
	if end == 0 || end > 1 && s.rest[0] == '0' {
		s.failed = true
	}
	n, err := strconv.ParseInt(string(s.rest[:end]), 10, 64)
	s.failed = s.failed || err != nil
	s.rest = s.rest[end:]
	return n
}

// text returns the text of a member, empty if it is not there.
func (s *scanner) text(member string) string {
	if s.failed || !s.has(member) {
		return ""
	}
	s.skip(member)
	switch text := s.quoted(); string(text) {
	case mostCommonState: // which need not be copied
		return mostCommonState
	default:
		return string(text)
	}
}

// quoted returns what comes before the next quote.
func (s *scanner) quoted() []byte {
	end := bytes.IndexByte(s.rest, '"')
	if end < 0 || !isPlain(string(s.rest[:end])) {
		s.failed = true
		return nil
	}
	text := s.rest[:end]
	s.rest = s.rest[end+1:]
	return text
}

func (s *scanner) prefix() netip.Prefix {
	p, err := netip.ParsePrefix(string(s.quoted()))
	s.failed = s.failed || err != nil
	return p
}

func (s *scanner) time(member string) (t time.Time) {
	if s.failed || !s.has(member) {
		return t
	}
	s.skip(member)
	s.failed = t.UnmarshalText(s.quoted()) != nil || s.failed
	return t.UTC()
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
