package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"
)

// What a commit of several heads keeps in the store while it is under way, see several_commit.go.
const (
	statePrepared  = "prepared"  // of a head
	stateCommitted = "committed" // of a mark
)

// prepared is what a prepared head holds in the place of the head.
type prepared struct {
	Transaction string          `json:"transaction"`
	Primary     Key             `json:"primary"`
	Before      *recordDocument `json:"before,omitempty"` // nil if there was no such head
	After       *recordDocument `json:"after,omitempty"`  // nil if it is to be deleted
	Writes      []writeDocument `json:"writes,omitempty"` // without the Delete of the head
}

// preparedData is the data of a prepared head.
type preparedData struct {
	Prepared *prepared `json:"preparedCommit"`
}

// markData is the data of a mark.
type markData struct {
	// Heads are the other heads than the first, in the order in which they are rolled forward.
	Heads []Key `json:"heads"`
}

// recordDocument is a record without its revision.
type recordDocument struct {
	Key      Key             `json:"key"`
	State    string          `json:"state,omitempty"`
	Prefixes []netip.Prefix  `json:"prefixes,omitempty"`
	Created  time.Time       `json:"created,omitzero"`
	Expires  time.Time       `json:"expires,omitzero"`
	Data     json.RawMessage `json:"data,omitempty"`
}

func documentOf(r Record) recordDocument {
	r = r.Canonical()
	return recordDocument{r.Key, r.State, r.Prefixes, r.Created, r.Expires, r.Data}
}

func (d recordDocument) record() Record {
	return Record{Key: d.Key, State: d.State, Prefixes: d.Prefixes, Created: d.Created.UTC(), Expires: d.Expires.UTC(), Data: d.Data}
}

// writeDocument is a Put, or a Delete.
type writeDocument struct {
	Delete bool           `json:"delete,omitempty"`
	Record recordDocument `json:"record"`
}

func (d writeDocument) write() Write {
	if d.Delete {
		return Write{Op: Delete, Record: Record{Key: d.Record.Key}}
	}
	return Write{Op: Put, Record: d.Record.record()}
}

// newPrepared returns what the change's head, which was as before, holds while it is prepared.
func newPrepared(transaction string, primary Key, before Record, c Change) *prepared {
	p := &prepared{Transaction: transaction, Primary: primary}
	if c.Head.Revision != 0 {
		d := documentOf(before)
		p.Before = &d
	}
	if !DeletesHead(c.Head.Key, c.Writes) {
		d := documentOf(c.Head)
		p.After = &d
	}
	for _, w := range c.Writes {
		switch {
		case w.Op != Delete:
			p.Writes = append(p.Writes, writeDocument{Record: documentOf(w.Record)})
		case w.Record.Key != c.Head.Key:
			p.Writes = append(p.Writes, writeDocument{Delete: true, Record: recordDocument{Key: w.Record.Key}})
		}
	}
	return p
}

// record returns the prepared head under key, to be written over what has the revision. Its fields but State and Data stay what they
// were, for people and for indexes.
func (p *prepared) record(key Key, revision int64) (Record, error) {
	r := Record{}
	if p.Before != nil {
		r = p.Before.record()
	}
	var data bytes.Buffer
	encoder := json.NewEncoder(&data)
	encoder.SetEscapeHTML(false) // so that what it holds comes back as it was
	if err := encoder.Encode(preparedData{p}); err != nil {
		return Record{}, fmt.Errorf("prepare head %v: %w", key, err)
	}
	r.Key, r.Revision, r.State, r.Data = key, revision, statePrepared, bytes.TrimSpace(data.Bytes())
	return r, nil
}

// preparedIn returns what r holds if it is a prepared head, else nil.
func preparedIn(r *Record) *prepared {
	if r.State != statePrepared {
		return nil
	}
	var data preparedData
	if err := json.Unmarshal(r.Data, &data); err != nil || data.Prepared == nil || data.Prepared.Transaction == "" {
		return nil
	}
	return data.Prepared
}

// preparedBy reports whether r is a head prepared by the transaction.
func preparedBy(r *Record, transaction string) bool {
	p := preparedIn(r)
	return p != nil && p.Transaction == transaction
}

// back returns the commit that makes the head under key, prepared at the revision, what it was.
func (p *prepared) back(key Key, revision int64) (Record, []Write) {
	if p.Before == nil {
		head := Record{Key: key, Revision: revision}
		return head, []Write{{Op: Delete, Record: Record{Key: key}}}
	}
	head := p.Before.record()
	head.Revision = revision
	return head, nil
}

// forward returns the commit that makes the head under key, prepared at the revision, what it is to be.
func (p *prepared) forward(key Key, revision int64) (Record, []Write) {
	var writes []Write
	for _, w := range p.Writes {
		writes = append(writes, w.write())
	}
	if p.After == nil {
		head := Record{Key: key, Revision: revision}
		return head, append(writes, Write{Op: Delete, Record: Record{Key: key}})
	}
	head := p.After.record()
	head.Revision = revision
	return head, writes
}

// mark returns the key of the transaction's mark.
func (p *prepared) mark() Key {
	return Key{Kind: KindTransaction, Pool: p.Primary.Pool, Name: p.Transaction}
}

// sameContent reports whether two records under one key hold the same. Equal JSON values that are written differently beyond white space and the order of
// members count as different.
func sameContent(a, b Record) bool {
	return a.State == b.State && slices.Equal(a.Prefixes, b.Prefixes) && canonicalTime(a.Created).Equal(canonicalTime(b.Created)) &&
		canonicalTime(a.Expires).Equal(canonicalTime(b.Expires)) && sameJSON(a.Data, b.Data)
}

func sameJSON(a, b json.RawMessage) bool {
	if len(a) == 0 || len(b) == 0 {
		return len(a) == len(b)
	}
	var values [2]any
	for i, text := range []json.RawMessage{a, b} {
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		if decoder.Decode(&values[i]) != nil {
			return false
		}
	}
	return reflect.DeepEqual(values[0], values[1])
}
